//! Makes components of a few lines of WebAssembly text, so that a test holds its whole guest. Knows the contract's worlds and
//! how its types lie in memory, not the host.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const PRELUDE: &str = include_str!("prelude.wat");
const WORLDS: &str = include_str!("worlds.wit");

/// The allocator that the host calls; a guest may bring its own.
const REALLOC: &str = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (call $allocate (local.get 2) (local.get 3)))"#;

/// `preprocess` with this body. The parameters are the request's parts: method 0, 1 (address, length), path 2, 3, query
/// 4 (whether there is one), 5, 6, headers 7, 8, body 9, 10. The result is an address, as the writers of the prelude give it.
pub(crate) fn preprocess(body: &str) -> String {
    export("preprocess", body)
}

/// `postprocess` with this body: as [`preprocess`], but 9, 10 are the outputs, each tensor of 28 bytes with its name at 0,
/// its dtype at 8, its shape at 12 and its data at 20.
pub(crate) fn postprocess(body: &str) -> String {
    export("postprocess", body)
}

/// `handle` with this body: parameters as [`preprocess`], a result as [`postprocess`].
pub(crate) fn handle(body: &str) -> String {
    let parameters = "i32 ".repeat(11);
    format!(r#"(func (export "sandmill:plugin/handler@0.1.0#handle") (param {parameters}) (result i32) {body})"#)
}

/// `init` with this body. The parameters are the settings 0, 1 (address, length; each of 16 bytes: key and value) and the
/// assets 2, 3 (each of 16 bytes: name and data). The body ends well by leaving nothing.
pub(crate) fn init(body: &str) -> String {
    format!(
        r#"(func (export "sandmill:plugin/init@0.1.0#init") (param i32 i32 i32 i32) (result i32) {body}
            (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))"#
    )
}

fn export(name: &str, body: &str) -> String {
    let parameters = "i32 ".repeat(11);
    format!(r#"(func (export "sandmill:plugin/{name}@0.1.0#{name}") (param {parameters}) (result i32) {body})"#)
}

/// Gives the request's body on as the tensor `x`, and the first output's data back as the response's body.
pub(crate) fn pass_through() -> String {
    preprocess("(call $tensor (local.get 9) (local.get 10))")
        + &postprocess("(call $reply (i32.const 200) (i32.load offset=20 (local.get 9)) (i32.load offset=24 (local.get 9)))")
}

/// A component of a world of the contract (`processor`, `preprocessor`, `postprocessor`, `request-handler`, …) or of
/// `worlds.wit`: `text` is what its core module has beside the prelude, imports first.
pub(crate) fn component(world: &str, text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (contract, _) = resolve.push_dir(contract_folder()).expect("the contract is valid WIT");
    let ours = resolve.push_str("worlds.wit", WORLDS).expect("the worlds are valid WIT");
    let package = if resolve.packages[contract].worlds.contains_key(world) { contract } else { ours };
    let world = resolve.select_world(&[package], Some(world)).expect("there is such a world");
    encode(&resolve, world, text)
}

/// A component of the world `guest` of some WIT of its own.
pub(crate) fn component_of(wit: &str, text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", wit).expect("the test's WIT is valid");
    let world = resolve.select_world(&[package], Some("guest")).expect("there is a world `guest`");
    encode(&resolve, world, text)
}

/// The core module alone.
pub(crate) fn module(text: &str) -> Vec<u8> {
    let realloc = if text.contains("cabi_realloc") { "" } else { REALLOC };
    wat::parse_str(format!("(module {text}\n{PRELUDE}\n{realloc})")).expect("the test's text is valid")
}

fn encode(resolve: &Resolve, world: wit_parser::WorldId, text: &str) -> Vec<u8> {
    let mut module = module(text);
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("the world can be embedded");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).expect("the module keeps to its world")
}

pub(crate) fn contract_folder() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.map(|folder| folder.join("wit/v0.1")).find(|folder| folder.is_dir()).expect("the contract lies above this crate")
}
