;; Exports a hook by its right name with functions of another type.
(component
  (core module $m
    (func (export "health") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $health (result u32) (canon lift (core func $i "health")))
  (instance $lifecycle (export "health" (func $health)))
  (export "netloom:policy/lifecycle@0.1.0" (instance $lifecycle)))
