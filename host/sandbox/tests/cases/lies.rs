//! Plugins whose answers are not what they say: each is `PluginFailed`, at no cost to the host.

use sandmill_domain::{Blame, Code};

use crate::guest::{component, preprocess};
use crate::harness::Harness;

const BROKEN: &str = "the plugin broke its contract with the host, or gave more than its plugin_output_bytes_max of 1000000";

/// The prelude's tensor, with a word of it changed, and the result after it.
fn tensor_with(change: &str) -> String {
    preprocess(&format!("(drop (call $tensor (i32.const 512) (i32.const 4))) {change} (i32.const 16)"))
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_refused() {
    let harness = Harness::start();
    let guests = [
        ("a result beyond the memory", preprocess("(i32.const -64)")),
        ("a result out of line", preprocess("(i32.const 17)")),
        ("no such case", preprocess("(i32.store8 (i32.const 16) (i32.const 2)) (i32.const 16)")),
        ("tensors beyond the memory", preprocess("(call $tensors (i32.const 100000000) (i32.const 3))")),
        ("as many tensors as the memory cannot hold", preprocess("(call $tensors (i32.const 64) (i32.const 0x10000000))")),
        ("a length that overflows", preprocess("(call $tensors (i32.const 64) (i32.const -1))")),
        ("tensors out of line", preprocess("(call $tensors (i32.const 65) (i32.const 1))")),
        ("data beyond the memory", tensor_with("(i32.store (i32.const 88) (i32.const 0x7fffffff))")),
        ("a shape beyond the memory", tensor_with("(i32.store (i32.const 80) (i32.const 0x10000000))")),
        ("no such dtype", tensor_with("(i32.store8 (i32.const 72) (i32.const 14))")),
        ("a name that is not UTF-8", tensor_with("(i32.store8 (i32.const 104) (i32.const 0xff))")),
        ("more data than the limit", preprocess("(drop (memory.grow (i32.const 60))) (call $tensor (i32.const 0) (i32.const 3000000))")),
        (
            "the same data again and again",
            preprocess(
                "(local $i i32) (drop (call $tensor (i32.const 512) (i32.const 60000)))
                 (loop (memory.copy (i32.add (i32.const 4096) (i32.mul (i32.const 28) (local.get $i))) (i32.const 64) (i32.const 28))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
                 (call $tensors (i32.const 4096) (i32.const 1000))",
            ),
        ),
    ];
    for (what, guest) in guests {
        let plugin = harness.load_with(&component("preprocessor", &guest), |options| options.limits.output_bytes_max = 1_000_000);
        let fault = harness.fault(&plugin, b"").await;
        assert_eq!((fault.code, fault.blame, fault.message.as_str()), (Code::PluginBadOutput, Blame::Plugin, BROKEN), "{what}");
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_refused() {
    let harness = Harness::start();
    let cases = [
        (tensor_with("(i32.store8 (i32.const 72) (i32.const 11))"), "the plugin gave a tensor `x` whose data is not as long as"),
        (tensor_with("(i64.store (i32.const 96) (i64.const -1))"), "the plugin gave a tensor `x` that has an axis beyond"),
        (preprocess("(call $tensor (i32.const 0) (i32.const 1001))"), "the plugin gave tensors of 1001 bytes"),
        (preprocess("(call $answer (i32.const 199) (i32.const 0) (i32.const 0))"), "the plugin gave the status 199"),
        (preprocess("(call $answer (i32.const 600) (i32.const 0) (i32.const 0))"), "the plugin gave the status 600"),
        (preprocess("(call $answer (i32.const 200) (i32.const 0) (i32.const 1001))"), "the plugin gave a body of 1001 bytes"),
    ];
    for (guest, message) in cases {
        let plugin = harness.load_with(&component("preprocessor", &guest), |options| options.limits.output_bytes_max = 1000);
        let fault = harness.fault(&plugin, b"").await;
        assert_eq!((fault.code, fault.blame), (Code::PluginBadOutput, Blame::Plugin));
        assert!(fault.message.starts_with(message), "{fault}");
    }
}

#[tokio::test]
async fn an_allocator_that_lies_is_refused() {
    let harness = Harness::start();
    for address in ["-16", "3", "0x7ffffff0"] {
        let guest = format!(
            r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {address})) {}"#,
            preprocess("(call $tensor (local.get 9) (local.get 10))")
        );
        let plugin = harness.load(&component("preprocessor", &guest));
        assert_eq!(harness.fault(&plugin, b"a body").await.code, Code::PluginBadOutput, "{address}");
    }
}
