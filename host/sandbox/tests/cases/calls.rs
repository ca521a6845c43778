//! Plugins that keep to the contract: what goes in and comes out, and that nothing stays behind.

use crate::guest::{component, pass_through, postprocess, preprocess};
use crate::harness::{Harness, TestModel, body_of, output, request, setting, soon};
use sandmill_domain::ports::{Plugin, Prepared};
use sandmill_domain::{Code, Dtype};

#[tokio::test]
async fn a_request_passes_through() {
    let harness = Harness::start();
    let plugin = harness.load(&component("processor", &pass_through()));
    assert!(plugin.preprocesses() && plugin.postprocesses());
    let mut guest = plugin.open(soon()).await.unwrap();
    let big = vec![7; 600_000];
    let Prepared::Tensors(tensors) = guest.preprocess(request(&big)).await.unwrap() else { panic!("no tensors") };
    assert_eq!((tensors.len(), tensors[0].name.as_str(), tensors[0].dtype), (1, "x", Dtype::Uint8));
    assert_eq!((tensors[0].shape.as_slice(), &tensors[0].data[..]), (&[600_000][..], &big[..]));
    let reply = guest.postprocess(&request(b"").head, vec![output(b"answer")]).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"answer"[..]));
}

#[tokio::test]
async fn either_half_may_be_missing() {
    let harness = Harness::start();
    let pre = harness.load(&component("preprocessor", &preprocess("(call $tensor (local.get 9) (local.get 10))")));
    assert!(pre.preprocesses() && !pre.postprocesses());
    let post =
        harness.load(&component("postprocessor", &postprocess("(call $reply (i32.const 204) (i32.const 0) (i32.const 0))")));
    assert!(!post.preprocesses() && post.postprocesses());
    let mut guest = pre.open(soon()).await.unwrap();
    assert_eq!(guest.postprocess(&request(b"").head, vec![]).await.unwrap_err().code, Code::Internal);
}

#[tokio::test]
async fn every_part_of_a_request_arrives() {
    let harness = Harness::start();
    let parts = [("0) (local.get 1", "POST"), ("2) (local.get 3", "/rest%20of"), ("5) (local.get 6", "a=1&b")];
    for (locals, expected) in parts {
        let answer = preprocess(&format!("(call $answer (i32.const 200) (local.get {locals}))"));
        let plugin = harness.load(&component("preprocessor", &answer));
        assert_eq!(body_of(&harness.answer(&plugin, b"").await), expected.as_bytes());
    }
    let second_value =
        preprocess("(call $answer (local.get 8) (i32.load offset=24 (local.get 7)) (i32.load offset=28 (local.get 7)))");
    // The number of headers as the status, which is refused, and told.
    let plugin = harness.load(&component("preprocessor", &second_value));
    let fault = harness.fault(&plugin, b"").await;
    assert!(fault.message.contains("the status 2"), "{fault}");
}

/// Counts in a memory word, in a global and in a table: `preprocess` adds one to each and answers with all three.
fn counter() -> String {
    let count = "
        (i32.store8 (i32.const 512) (i32.add (i32.const 1) (i32.load8_u (i32.const 512))))
        (global.set $count (i32.add (i32.const 1) (global.get $count)))
        (i32.store8 (i32.const 513) (global.get $count))
        (i32.store8 (i32.const 514) (ref.is_null (table.get $kept (i32.const 0))))
        (table.set $kept (i32.const 0) (ref.func $counted))
        (i32.store8 (i32.const 515) (i32.and (memory.size) (i32.const 255)))
        (drop (memory.grow (i32.const 1)))";
    format!(
        "(global $count (mut i32) (i32.const 0)) (table $kept 1 funcref) (func $counted) (elem declare func $counted) {} {}",
        preprocess(&format!("{count} (call $tensor (i32.const 512) (i32.const 4))")),
        postprocess(&format!("{count} (call $reply (i32.const 200) (i32.const 512) (i32.const 4))")),
    )
}

#[tokio::test]
async fn state_lives_through_a_request_and_never_longer() {
    let harness = Harness::start();
    let plugin = harness.load(&component("processor", &counter()));
    // More requests than the pool has places, so that each place is used again.
    for _ in 0..3 * crate::harness::INSTANCES {
        let mut guest = plugin.open(soon()).await.unwrap();
        let Prepared::Tensors(tensors) = guest.preprocess(request(b"x")).await.unwrap() else { panic!("no tensors") };
        assert_eq!(tensors[0].data[..], [1, 1, 1, 2]);
        let reply = guest.postprocess(&request(b"").head, vec![]).await.unwrap();
        assert_eq!(reply.body[..], [2, 2, 0, 3]);
    }
}

#[tokio::test]
async fn a_refusal_of_the_plugins_own_is_told() {
    let harness = Harness::start();
    let refuse = |kind: u8| {
        let refuse = preprocess(&format!("(call $refuse (i32.const {kind}) (local.get 9) (local.get 10))"));
        component("preprocessor", &refuse)
    };
    let kinds = [Code::InvalidInput, Code::NotFound, Code::UnsupportedMedia, Code::Unprocessable].into_iter().zip(0..);
    for (code, kind) in kinds {
        let fault = harness.fault(&harness.load(&refuse(kind)), b"no such thing").await;
        assert_eq!((fault.code, fault.message.as_str()), (code, "no such thing"));
    }
    let fault = harness.fault(&harness.load(&refuse(4)), b"secret").await;
    assert_eq!((fault.code, fault.message.as_str()), (Code::PluginFailed, "the plugin failed"));
    assert!(fault.report().to_string().ends_with(": secret"));
    let fault = harness.fault(&harness.load(&refuse(5)), b"no such kind").await;
    assert_eq!(fault.code, Code::PluginBadOutput);
}

#[tokio::test]
async fn the_configuration_and_the_model_are_told() {
    let harness = Harness::start();
    let answer = "(call $answer (i32.const 200) (i32.load offset=4 (i32.const 512)) (i32.load offset=8 (i32.const 512)))";
    let get = format!(
        r#"(import "sandmill:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32))) {}"#,
        preprocess(&format!("(call $get (local.get 9) (local.get 10) (i32.const 512)) {answer}"))
    );
    let plugin = harness.load_with(&component("preprocessor", &get), |options| {
        options.config = vec![setting("other", "1"), setting("threshold", "0.75")];
    });
    assert_eq!(body_of(&harness.answer(&plugin, b"threshold").await), b"0.75");
    assert_eq!(body_of(&harness.answer(&plugin, b"thresh").await), b"");

    let signature = format!(
        r#"(import "sandmill:plugin/model-info@0.1.0" "signature" (func $signature (param i32 i32 i32))) {}"#,
        // The first input's name: the option at 512, its payload, the list of inputs, at 516.
        preprocess(
            "(call $signature (local.get 9) (local.get 10) (i32.const 512))
             (if (result i32) (i32.load8_u (i32.const 512))
                (then (call $answer (i32.const 200)
                    (i32.load (i32.load (i32.const 516))) (i32.load offset=4 (i32.load (i32.const 516)))))
                (else (call $answer (i32.const 404) (i32.const 0) (i32.const 0))))"
        )
    );
    let plugin = harness.load_with(&component("preprocessor", &signature), |options| {
        options.models = vec![TestModel::new("digits", "pixels", |inputs| Box::pin(async { Ok(inputs) }))];
    });
    assert_eq!(body_of(&harness.answer(&plugin, b"digits").await), b"pixels");
    assert_eq!(harness.answer(&plugin, b"other").await.status.as_u16(), 404);
}
