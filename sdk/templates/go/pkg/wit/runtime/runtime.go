// Package runtime has what the bindings call: memory that stays in its place, and handles of resources.
package runtime

import (
	"runtime"
	"unsafe"
)

// What the host has put here for the call under way.
var arguments runtime.Pinner

// Allocate gives size bytes, aligned for whatever lies in them, that stay in their place until the pinner lets go.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	if align > 8 {
		panic("nothing is aligned to more than 8 bytes")
	}
	words := unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	pinner.Pin(words)
	return words
}

// Unpin lets go of what the host has put here: Go's own pointers keep what is still needed.
func Unpin() {
	arguments.Unpin()
}

//go:wasmexport cabi_realloc
func reallocate(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	memory := Allocate(&arguments, size, align)
	if kept := min(oldSize, size); kept > 0 {
		copy(unsafe.Slice((*byte)(memory), kept), unsafe.Slice((*byte)(old), kept))
	}
	return memory
}

// Handle is a resource's handle, as long as it is ours; none is 0.
type Handle struct {
	value int32
}

// MakeHandle keeps a handle.
func MakeHandle(value int32) *Handle {
	handle := &Handle{}
	handle.Set(value)
	return handle
}

// Use gives the handle for a call.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("the resource was given away or dropped")
	}
	return h.value
}

// Take gives the handle away.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// TakeOrNil gives the handle away if it is ours, and else 0.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// Set keeps a handle where there was none.
func (h *Handle) Set(value int32) {
	if value == 0 || h.value != 0 {
		panic("a handle is kept once, and is never 0")
	}
	h.value = value
}
