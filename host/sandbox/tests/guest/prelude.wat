;; What every guest of the tests has: memory, an allocator that never frees, and writers of the contract's results.
;; The lowest page is theirs: results at 16, one tensor at 64, its shape at 96, its name at 104; what guests keep begins at 512.

(memory (export "memory") 2)
(global $heap (mut i32) (i32.const 65536))
(data (i32.const 104) "x")

;; A result of `preprocess`: one tensor `x`, uint8 [length].
(func $tensor (param $data i32) (param $length i32) (result i32)
    (i32.store (i32.const 64) (i32.const 104))
    (i32.store (i32.const 68) (i32.const 1))
    (i32.store8 (i32.const 72) (i32.const 1))
    (i32.store (i32.const 76) (i32.const 96))
    (i32.store (i32.const 80) (i32.const 1))
    (i32.store (i32.const 84) (local.get $data))
    (i32.store (i32.const 88) (local.get $length))
    (i64.store (i32.const 96) (i64.extend_i32_u (local.get $length)))
    (call $tensors (i32.const 64) (i32.const 1)))

;; A result of `preprocess`: tensors that lie somewhere.
(func $tensors (param $list i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store8 (i32.const 20) (i32.const 0))
    (i32.store (i32.const 24) (local.get $list))
    (i32.store (i32.const 28) (local.get $length))
    (i32.const 16))

;; A result of `preprocess`: a response at once.
(func $answer (param $status i32) (param $body i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store8 (i32.const 20) (i32.const 1))
    (i32.store16 (i32.const 24) (local.get $status))
    (i32.store (i32.const 28) (i32.const 0))
    (i32.store (i32.const 32) (i32.const 0))
    (i32.store (i32.const 36) (local.get $body))
    (i32.store (i32.const 40) (local.get $length))
    (i32.const 16))

;; A result of `postprocess`: a response.
(func $reply (param $status i32) (param $body i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store16 (i32.const 20) (local.get $status))
    (i32.store (i32.const 24) (i32.const 0))
    (i32.store (i32.const 28) (i32.const 0))
    (i32.store (i32.const 32) (local.get $body))
    (i32.store (i32.const 36) (local.get $length))
    (i32.const 16))

;; A refusal, of either.
(func $refuse (param $kind i32) (param $message i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store8 (i32.const 20) (local.get $kind))
    (i32.store (i32.const 24) (local.get $message))
    (i32.store (i32.const 28) (local.get $length))
    (i32.const 16))

;; Room from the heap; out of memory is a trap.
(func $allocate (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1)
            (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
        unreachable)
    (local.get $at))
