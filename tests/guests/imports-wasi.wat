;; Has the lifecycle hook, and imports WASI.
(component
  (import "wasi:cli/environment@0.2.0" (instance
    (export "get-arguments" (func (result (list string))))))

  (core module $m
    (memory (export "memory") 1)
    ;; The one string it is given goes to 1024; the result area at 0 stays zero, which says `ok`.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "init") (param i32 i32) (result i32) i32.const 0)
    (func (export "health") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $init (param "config" string) (result (result (error string)))
    (canon lift (core func $i "init") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func $health (result (result (error string)))
    (canon lift (core func $i "health") (memory (core memory $i "memory"))))
  (instance $lifecycle
    (export "init" (func $init))
    (export "health" (func $health)))
  (export "netloom:policy/lifecycle@0.1.0" (instance $lifecycle)))
