// Package wit_types has WIT's generic types.
package wit_types

// Unit is what has no value.
type Unit struct{}

// The tags of an Option.
const (
	OptionNone = 0
	OptionSome = 1
)

// Option is a value that may be missing.
type Option[T any] struct {
	value *T
}

// None is no value.
func None[T any]() Option[T] {
	return Option[T]{}
}

// Some is a value.
func Some[T any](value T) Option[T] {
	return Option[T]{&value}
}

// Tag is OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 {
	if o.value == nil {
		return OptionNone
	}
	return OptionSome
}

// IsSome tells whether there is a value.
func (o Option[T]) IsSome() bool { return o.value != nil }

// IsNone tells whether there is none.
func (o Option[T]) IsNone() bool { return o.value == nil }

// Some is the value; it panics if there is none.
func (o Option[T]) Some() T {
	if o.value == nil {
		panic("there is no value")
	}
	return *o.value
}

// SomeOr is the value, or another one if there is none.
func (o Option[T]) SomeOr(other T) T {
	if o.value == nil {
		return other
	}
	return *o.value
}

// The tags of a Result.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is a value, or what went wrong.
type Result[T any, E any] struct {
	ok  *T
	err *E
}

// Ok is a value.
func Ok[T any, E any](value T) Result[T, E] {
	return Result[T, E]{ok: &value}
}

// Err is what went wrong.
func Err[T any, E any](err E) Result[T, E] {
	return Result[T, E]{err: &err}
}

// Tag is ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 {
	if r.err != nil {
		return ResultErr
	}
	return ResultOk
}

// IsOk tells whether there is a value.
func (r Result[T, E]) IsOk() bool { return r.err == nil }

// IsErr tells whether something went wrong.
func (r Result[T, E]) IsErr() bool { return r.err != nil }

// Ok is the value; it panics if something went wrong.
func (r Result[T, E]) Ok() T {
	if r.ok == nil {
		panic("there is no value, but an error")
	}
	return *r.ok
}

// Err is what went wrong; it panics if nothing did.
func (r Result[T, E]) Err() E {
	if r.err == nil {
		panic("there is no error, but a value")
	}
	return *r.err
}

// Tuple2 is a tuple of two; the others likewise. Netloom's interfaces have these.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}

type Tuple4[A, B, C, D any] struct {
	F0 A
	F1 B
	F2 C
	F3 D
}

type Tuple6[A, B, C, D, E, F any] struct {
	F0 A
	F1 B
	F2 C
	F3 D
	F4 E
	F5 F
}

type Tuple8[A, B, C, D, E, F, G, H any] struct {
	F0 A
	F1 B
	F2 C
	F3 D
	F4 E
	F5 F
	F6 G
	F7 H
}
