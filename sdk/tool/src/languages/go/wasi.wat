;; What Go's runtime asks of a system, answered as one on which there is nothing: no files, no arguments, no
;; environment. Time goes on by a microsecond with each look at it, and random numbers are the same each time: a plugin
;; decides on what it is asked and nothing else. What is written goes nowhere.
(module
  (import "env" "memory" (memory 0))
  (global $now (mut i64) (i64.const 0))
  (global $random (mut i64) (i64.const 0x9e3779b97f4a7c15))

  ;; Nothing at either address.
  (func $none (param $count i32) (param $size i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $size) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (func $fine2 (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $fine2))
  (export "environ_get" (func $fine2))
  (func (export "sched_yield") (result i32) (i32.const 0))
  (func (export "proc_exit") (param i32) unreachable)

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $to i32) (result i32)
    (global.set $now (i64.add (global.get $now) (i64.const 1000)))
    (i64.store (local.get $to) (global.get $now))
    (i32.const 0))

  (func (export "random_get") (param $to i32) (param $size i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $to) (local.get $size)))
    (block $done
      (loop $each
        (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
        (global.set $random (i64.xor (global.get $random) (i64.shl (global.get $random) (i64.const 13))))
        (global.set $random (i64.xor (global.get $random) (i64.shr_u (global.get $random) (i64.const 7))))
        (global.set $random (i64.xor (global.get $random) (i64.shl (global.get $random) (i64.const 17))))
        (i64.store8 (local.get $to) (global.get $random))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (br $each)))
    (i32.const 0))

  ;; Whoever waits has waited: each clock has run off.
  (func (export "poll_oneoff") (param $wanted i32) (param $events i32) (param $count i32) (param $told i32) (result i32)
    (local $left i32)
    (local.set $left (local.get $count))
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $left)))
        ;; Whose it is; that it went well; that it is a clock's.
        (i64.store (local.get $events) (i64.load (local.get $wanted)))
        (i64.store offset=8 (local.get $events) (i64.const 0))
        (local.set $wanted (i32.add (local.get $wanted) (i32.const 48)))
        (local.set $events (i32.add (local.get $events) (i32.const 32)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $each)))
    (global.set $now (i64.add (global.get $now) (i64.const 1000000000)))
    (i32.store (local.get $told) (local.get $count))
    (i32.const 0))

  ;; All of it was written.
  (func (export "fd_write") (param $file i32) (param $parts i32) (param $count i32) (param $written i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $each
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (i32.add (local.get $sum) (i32.load offset=4 (local.get $parts))))
        (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $each)))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  ;; No such descriptor (8).
  (func $bad1 (param i32) (result i32) (i32.const 8))
  (func $bad2 (param i32 i32) (result i32) (i32.const 8))
  (func $bad3 (param i32 i32 i32) (result i32) (i32.const 8))
  (func $bad4 (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad5 (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad6 (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad7 (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (export "fd_close" (func $bad1))
  (export "fd_sync" (func $bad1))
  (export "fd_fdstat_get" (func $bad2))
  (export "fd_fdstat_set_flags" (func $bad2))
  (export "fd_filestat_get" (func $bad2))
  (export "fd_prestat_get" (func $bad2))
  (export "fd_prestat_dir_name" (func $bad3))
  (export "path_create_directory" (func $bad3))
  (export "path_remove_directory" (func $bad3))
  (export "path_unlink_file" (func $bad3))
  (export "fd_read" (func $bad4))
  (export "fd_readdir" (func $readdir))
  (func $readdir (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (export "fd_pread" (func $at))
  (export "fd_pwrite" (func $at))
  (func $at (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (export "fd_seek" (func $seek))
  (func $seek (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (export "fd_filestat_set_size" (func $size))
  (func $size (param i32 i64) (result i32) (i32.const 8))
  (export "path_filestat_get" (func $bad5))
  (export "path_symlink" (func $bad5))
  (export "path_readlink" (func $bad6))
  (export "path_rename" (func $bad6))
  (export "path_link" (func $bad7))
  (export "path_open" (func $open))
  (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
  (export "path_filestat_set_times" (func $times))
  (func $times (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8)))
