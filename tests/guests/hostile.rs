//! Every hostile guest: what it does, what must come of it, and how it is made. Knows the contract and how its types lie in
//! memory; which host it is loaded into is its caller's business.
//!
//! The list is a macro, so that a guest cannot be without a test: [`for_each_hostile_guest`] hands every name of it to a
//! macro of the caller's, and `host/sandbox/tests/hostile_guests.rs` makes a test of each. The acceptance tests serve them, and
//! `host/sandbox/examples/hostile_p99.rs` measures what a neighbour notices.
#![allow(dead_code, reason = "each binary uses a part")]

use sandmill_domain::Code;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::guest::{self, component, component_of, handle, init, pass_through, preprocess};

#[path = "bombs.rs"]
mod bombs;

/// What must come of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is not loaded, for a reason that holds these words.
    Refused(&'static str),
    /// It is loaded, and whoever calls it is told this code, in words that hold these.
    Fails(Code, &'static str),
    /// It is loaded and answers: what it tried has come to nothing.
    Answers,
}

impl Outcome {
    /// Whether it ends by the plugin's time: what ends for another reason should have plenty of it, even on a busy machine.
    pub(crate) fn is_timeout(self) -> bool {
        matches!(self, Self::Fails(Code::PluginTimeout, _)) || self == Self::Refused(LOOPS_IN_INIT)
    }
}

/// One of them.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) make: fn() -> Vec<u8>,
}

/// Whether it is the compiler that is to be kept busy: the host that such a guest is loaded into gives up early.
pub(crate) const TOO_DEAR: &str = "the component was not compiled: the process for it gave no answer";

const LOOPS_IN_INIT: &str = "the plugin's init failed: the plugin ran longer than its plugin_init_time_ms of ";

macro_rules! hostile_guests {
    ($($(#[doc = $what:literal])+ $name:ident: $outcome:expr, $component:expr;)+) => {
        mod made {
            use super::*;
            $($(#[doc = $what])+ pub(super) fn $name() -> Vec<u8> { $component })+
        }

        /// All of them.
        pub(crate) const ALL: &[Guest] =
            &[$(Guest { name: stringify!($name), outcome: $outcome, make: made::$name }),+];

        /// Calls a macro with the name of each.
        #[allow(unused_macros, reason = "each binary uses a part")]
        macro_rules! for_each_hostile_guest {
            ($each:ident) => { $($each! { $name })+ };
        }
        #[allow(unused_imports, reason = "each binary uses a part")]
        pub(crate) use for_each_hostile_guest;
    };
}

/// The request's body that all of them are called with: as unlucky as a body can be for [`collisions`].
pub(crate) static BODY: [u8; 64 << 10] = [b'a'; 64 << 10];

const LOG: &str = r#"(import "sandmill:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
const GET: &str = r#"(import "sandmill:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
const METADATA: &str = r#"(import "sandmill:plugin/model-info@0.1.0" "metadata" (func $metadata (param i32 i32 i32)))"#;
const INFER: &str = r#"(import "sandmill:plugin/models@0.1.0" "infer" (func $infer (param i32 i32 i32 i32 i32)))"#;
const SPIN: &str = "(loop (br 0)) unreachable";
/// 48 MiB more: most of what an instance may have by default.
const GROW: &str = "(drop (memory.grow (i32.const 768)))";
/// What the prelude's allocator has taken is written over from here on.
const FREE: &str = "(i32.const 0x40000)";

const BROKEN: Outcome = Outcome::Fails(Code::PluginBadOutput, "the plugin broke its contract with the host, or gave more than");
const LOOPS: Outcome = Outcome::Fails(Code::PluginTimeout, "the plugin ran longer than its plugin_time_ms of ");

const fn bad(words: &'static str) -> Outcome {
    Outcome::Fails(Code::PluginBadOutput, words)
}

const fn traps(words: &'static str) -> Outcome {
    Outcome::Fails(Code::PluginTrapped, words)
}

const fn memory_out() -> Outcome {
    Outcome::Fails(Code::PluginOutOfMemory, "the plugin failed after it reached its ")
}

const fn refused(words: &'static str) -> Outcome {
    Outcome::Refused(words)
}

hostile_guests! {
    /// Loops in its call.
    loops_in_a_call: LOOPS, pre(SPIN);
    /// Loops when it is started.
    loops_in_start: LOOPS, with("(func $spin (loop (br 0))) (start $spin)", "unreachable");
    /// Loops when the host asks it for memory.
    loops_in_realloc: LOOPS,
        with(r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)"#, "unreachable");
    /// Answers, and loops when the host is done with the answer.
    loops_in_post_return: LOOPS, with(&post_return("(loop (br 0))"), EMPTY);
    /// Answers, and traps when the host is done with the answer.
    traps_in_post_return: traps("wasm `unreachable` instruction executed"), with(&post_return("unreachable"), EMPTY);
    /// Loops in its `init`.
    loops_in_init: refused(LOOPS_IN_INIT), with_init("(loop (br 0))", "");
    /// Loops before its `init`.
    loops_before_init: refused(LOOPS_IN_INIT),
        with_init("", "(func $spin (loop (br 0))) (start $spin)");
    /// No loop at all: calls that double.
    doubles_its_calls: LOOPS,
        with("(func $twice (param i32) (if (local.get 0) (then
            (call $twice (i32.sub (local.get 0) (i32.const 1))) (call $twice (i32.sub (local.get 0) (i32.const 1))))))",
            "(call $twice (i32.const 60)) unreachable");
    /// No loop at all: a call in the place of the last, for ever.
    tail_calls: LOOPS, with("(func $next (return_call $next))", "(call $next) unreachable");
    /// Instructions that take long, again and again.
    fills_memory: LOOPS,
        pre(&format!("{GROW} (loop (memory.fill {FREE} (i32.const 1) (i32.const 8000000)) (br 0)) unreachable"));
    /// As long as one instruction can be.
    copies_memory: LOOPS,
        pre(&format!("{GROW} (loop (memory.copy {FREE} (i32.const 0x40001) (i32.const 30000000)) (br 0)) unreachable"));
    /// Tables filled again and again.
    fills_tables: LOOPS,
        with("(table $all 20000 funcref)",
            "(loop (table.fill $all (i32.const 0) (ref.null func) (i32.const 20000)) (br 0)) unreachable");
    /// A hash table that a request can make slow: its body is all collisions.
    collides: LOOPS, collisions();

    /// Takes all the memory that it can get.
    hogs_memory: memory_out(),
        pre("(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable");
    /// Takes it and writes to all of it.
    dirties_memory: memory_out(),
        pre("(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
            (memory.fill (i32.const 1024) (i32.const 7) (i32.const 0x3fffc00)) unreachable");
    /// Writes to all of it, and answers: it has stayed within its limits.
    dirties_memory_and_answers: Outcome::Answers,
        pre(&format!("(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
            (memory.fill (i32.const 1024) (i32.const 7) (i32.const 0x3fffc00)) {EMPTY}"));
    /// Begins with all memory that there can be.
    begins_with_4_gib: refused("the compiled component does not fit this host"),
        with("(memory 65535)", "unreachable");
    /// Text for its memory that lies beyond it.
    data_out_of_bounds: traps("out of bounds memory access"), with(r#"(data (i32.const -1) "text")"#, "unreachable");
    /// A byte at either end of the memory: its image has 64 MiB.
    sparse_image: Outcome::Answers, two_memories_one_sparse();
    /// More memories than one.
    three_memories: refused("the component has 3 memories"), with("(memory 1) (memory 1)", "unreachable");
    /// Grows its tables as far as it can.
    hogs_tables: Outcome::Fails(Code::PluginOutOfMemory, "the plugin failed after it reached its "),
        with("(table $all 0 funcref)",
            "(loop (br_if 0 (i32.ne (i32.const -1) (table.grow $all (ref.null func) (i32.const 1000))))) unreachable");
    /// Begins with too large a table.
    begins_with_a_table: refused("the component begins with a table of 20001 elements"),
        with("(table 20001 funcref)", "unreachable");
    /// Calls itself without end.
    hogs_the_stack: traps("call stack exhausted"), with("(func $deep (call $deep))", "(call $deep) unreachable");
    /// The same with frames as large as they can be.
    wide_frames: traps("call stack exhausted"), with(&recursion_of_wide_frames(), "(call $wide) unreachable");
    /// The same when it is started.
    hogs_the_stack_in_start: traps("call stack exhausted"), with("(func $deep (call $deep)) (start $deep)", "unreachable");
    /// The same in its `init`.
    hogs_the_stack_in_init: refused("the plugin's init failed: the plugin trapped: call stack exhausted"),
        with_init("(call $deep)", "(func $deep (call $deep))");
    /// Takes all memory in its `init`.
    hogs_memory_in_init: refused("the plugin's init failed: the plugin failed after it reached its "),
        with_init("(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 200))))) unreachable", "");
    /// Leaves as much memory as it may have after its `init`, none of it zero.
    leaves_all_memory_after_init: Outcome::Answers,
        with_init("(drop (memory.grow (i32.const 1022))) (memory.fill (i32.const 1024) (i32.const 7) (i32.const 0x3fffc00))", "");

    /// Traps.
    traps_at_once: traps("wasm `unreachable` instruction executed"), pre("unreachable");
    /// Reads beyond its memory.
    reads_beyond: traps("out of bounds memory access"), pre("(drop (i32.load (i32.const -4))) unreachable");
    /// Divides by zero.
    divides_by_zero: traps("integer divide by zero"), pre("(drop (i32.div_u (i32.const 1) (i32.const 0))) unreachable");
    /// Calls a function by another's type.
    calls_by_a_wrong_type: traps("indirect call type mismatch"),
        with("(type $none (func)) (table 1 funcref) (elem (i32.const 0) $one) (func $one (param i64))",
            "(call_indirect (type $none) (i32.const 0)) unreachable");
    /// Traps in a function whose name would begin lines of the log and steer a terminal.
    evil_names: traps("wasm `unreachable` instruction executed"), named(r"\0a2026-01-01 INFO access: forged \1b[31mred\07");
    /// Traps in functions whose names are as long as they can be.
    long_names: traps("wasm `unreachable` instruction executed"), named(&"n".repeat(99_999));
    /// Traps in a function whose name, of 200 bytes, stands for gigabytes once it is demangled.
    names_that_explode: traps("wasm `unreachable` instruction executed"), named(&exploding_name(40));
    /// A name that is to be shown in a refusal, and steers a terminal.
    evil_names_in_a_refusal: refused("the component is damaged or needs what this host does not support: "),
        bombs::with_module(answering(), &evil_module());

    /// All of its memory again and again, as 64 tensors.
    huge_return: BROKEN, all_memory_again_and_again();
    /// A million tensors, which are really there.
    a_million_tensors: BROKEN, pre(&format!("{GROW} (call $tensors {FREE} (i32.const 1000000))"));
    /// As many tensors as the host still reads.
    many_tensors: bad("the plugin gave 500000 tensors in one call"),
        pre(&format!("{GROW} (call $tensors {FREE} (i32.const 500000))"));
    /// A tensor with as many axes as its memory has room for.
    a_million_axes: bad("that has too many axes"), tensor_with(&format!("{GROW} (i32.store (i32.const 80) (i32.const 1000000))"));
    /// Axes whose product is beyond all numbers.
    bad_shape: bad("whose data is not as long as its shape and datatype say"),
        tensor_with("(i64.store (i32.const 512) (i64.const 0x4000000000000000)) (i64.store (i32.const 520) (i64.const 4))
            (i32.store (i32.const 76) (i32.const 512)) (i32.store (i32.const 80) (i32.const 2))");
    /// Another shape than its data's.
    bad_shape_for_its_data: bad("whose data is not as long as its shape and datatype say"),
        tensor_with("(i64.store (i32.const 96) (i64.const 5))");
    /// A datatype that there is not.
    bad_dtype: BROKEN, tensor_with("(i32.store8 (i32.const 72) (i32.const 14))");
    /// A name of 48 MB that would steer a terminal.
    bad_name: bad("whose name is too long"),
        tensor_with(&format!("{GROW} (memory.fill {FREE} (i32.const 27) (i32.const 48000000))
            (i32.store (i32.const 64) {FREE}) (i32.store (i32.const 68) (i32.const 48000000))"));
    /// A name that is no text.
    bad_utf8: BROKEN, tensor_with("(i32.store8 (i32.const 104) (i32.const 0xff))");
    /// The same of a guest whose texts are UTF-16: half of a pair.
    lone_surrogate: BROKEN, encoded(StringEncoding::UTF16, "(i32.store16 (i32.const 104) (i32.const 0xd800))");
    /// The same of one whose texts are of either kind, by a bit of their length.
    lone_surrogate_of_either_kind: BROKEN,
        encoded(StringEncoding::CompactUTF16, "(i32.store16 (i32.const 104) (i32.const 0xdc00)) (i32.store (i32.const 68) (i32.const 0x80000001))");
    /// That bit, and a length whose double is beyond 32 bits.
    overflowing_length_of_either_kind: BROKEN,
        encoded(StringEncoding::CompactUTF16, "(i32.store (i32.const 68) (i32.const -1))");
    /// Texts out of line.
    unaligned_utf16: BROKEN, encoded(StringEncoding::UTF16, "(i32.store (i32.const 64) (i32.const 105))");
    /// The longest list that can be said.
    longest_list: BROKEN, pre("(call $tensors (i32.const 64) (i32.const -1))");
    /// The longest data that can be said.
    longest_data: BROKEN, tensor_with("(i32.store (i32.const 88) (i32.const -1))");
    /// A result that is out of line.
    unaligned_result: BROKEN, pre("(i32.const 17)");
    /// A result beyond its memory.
    result_out_of_bounds: BROKEN, pre("(i32.const -64)");
    /// A case that there is not.
    bad_discriminant: BROKEN, pre("(i32.store8 (i32.const 16) (i32.const 255)) (i32.const 16)");
    /// A header that ends the response and begins another.
    splits_the_response: bad("the plugin gave an invalid value for the header `x`"), header_with_a_line_break();
    /// A header for each of its bytes.
    a_million_headers: BROKEN, answer_with(&format!("{GROW} (i32.store (i32.const 28) {FREE}) (i32.store (i32.const 32) (i32.const 3000000))"));
    /// A status that would leave the client waiting.
    interim_status: bad("the plugin gave the status 101"), pre("(call $answer (i32.const 101) (i32.const 0) (i32.const 0))");
    /// Refuses in 48 MB that steer a terminal.
    refuses_at_length: Outcome::Fails(Code::Unprocessable, ""),
        pre(&format!("{GROW} (memory.fill {FREE} (i32.const 27) (i32.const 48000000)) (call $refuse (i32.const 3) {FREE} (i32.const 48000000))"));

    /// Memory beyond its memory.
    realloc_out_of_bounds: BROKEN, realloc("(i32.const 0x7ffffff0)");
    /// Memory out of line.
    realloc_unaligned: BROKEN, realloc("(i32.const 3)");
    /// Memory that wraps around.
    realloc_wraps: BROKEN, realloc("(i32.const -16)");
    /// The same memory each time: what the host writes there is the guest's own loss.
    realloc_overlaps: Outcome::Answers, realloc("(i32.const 1024)");
    /// Memory where its answer will lie.
    realloc_in_the_result: Outcome::Answers, realloc("(i32.const 16)");
    /// Calls the host while the host asks it for memory.
    realloc_calls_the_host: traps("cannot leave component instance"),
        with(&format!(r#"{LOG} (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (call $log (i32.const 3) (i32.const 104) (i32.const 1)) (i32.const 1024))"#), EMPTY);

    /// Logs until the host has had enough.
    floods_the_log: bad("the plugin called the host more often than its plugin_host_calls_max of "),
        with(LOG, "(loop (call $log (i32.const 3) (local.get 9) (local.get 10)) (br 0)) unreachable");
    /// The same with lines of 48 MB.
    floods_the_log_at_length: BROKEN, long_calls(LOG, "(call $log (i32.const 3) ", ")");
    /// Logs in its `init`.
    floods_the_log_in_init: refused("the plugin's init failed: the plugin called the host more often than its plugin_host_calls_max"),
        with_init("(loop (call $log (i32.const 3) (i32.const 104) (i32.const 1)) (br 0))", LOG);
    /// Lines that steer a terminal, in its `init`.
    evil_lines_in_init: Outcome::Answers,
        with_init("(i32.store (i32.const 600) (i32.const 0x41345b1b)) (call $log (i32.const 4) (i32.const 600) (i32.const 4))", LOG);
    /// Calls another of the host's functions until it has had enough.
    floods_the_host: bad("the plugin called the host more often than its plugin_host_calls_max of "),
        with(GET, "(loop (call $get (i32.const 104) (i32.const 1) (i32.const 512)) (br 0)) unreachable");
    /// The same with a key of 48 MB.
    asks_at_length: BROKEN, long_calls(GET, "(call $get ", "(i32.const 512))");
    /// The same with the name of a model.
    asks_for_models_at_length: BROKEN, long_calls(METADATA, "(call $metadata ", "(i32.const 512))");
    /// Runs a model that it does not have, until the host has had enough.
    floods_the_models: bad("the plugin called the host more often than its plugin_host_calls_max of "), runs_no_model_for_ever();
    /// A million inputs for a model.
    a_million_inputs: BROKEN,
        component("request-handler", &format!("{INFER} {}",
            handle(&format!("{GROW} (call $infer (i32.const 104) (i32.const 1) {FREE} (i32.const 1000000) (i32.const 700)) unreachable"))));

    /// One giant function.
    giant_function: refused("the component has a function of 2000000 bytes; at most 1048576 are taken"),
        bombs::with_module(answering(), &bombs::giant_function(2_000_000));
    /// A hundred thousand small ones.
    many_functions: refused("the component has more than 65536 functions"),
        bombs::with_module(answering(), &bombs::small_functions(100_000));
    /// Functions of a few bytes that keep the compiler busy for hours.
    many_locals: refused(TOO_DEAR), bombs::with_module(answering(), &bombs::many_locals(65_000));
    /// Blocks within blocks.
    deep_blocks: refused(TOO_DEAR), bombs::with_module(answering(), &bombs::nested_blocks(300_000));
    /// Jumps from everywhere to everywhere.
    jump_tables: Outcome::Answers, bombs::with_module(answering(), &bombs::jump_tables(300, 60));
    /// Components within components.
    deep_components: refused("the component has components within components, more than 16 deep"), bombs::with_nested_components(answering(), 10_000);
    /// Types that double.
    doubling_types: refused("the component is damaged or needs what this host does not support: "),
        bombs::with_doubling_types(answering(), 60);
    /// Many types.
    many_types: Outcome::Answers, bombs::with_types(answering(), 100_000);
    /// Many imports.
    many_imports: refused("the component imports what it is not granted: no-such-import-0"), bombs::imports(100_000);
    /// Many exports.
    many_exports: refused("but no-such-export-0"), bombs::exports(100_000);

    /// Nothing.
    nothing: refused("the file is no WebAssembly component"), Vec::new();
    /// Random bytes.
    random_bytes: refused("the file is no WebAssembly component"), bombs::noise(b"", 100_000, 7);
    /// Random bytes that begin like a component.
    random_bytes_in_a_component: refused("the component is damaged or needs what this host does not support: "),
        bombs::noise(&bombs::component_head(), 100_000, 8);
    /// Half of a component.
    truncated: refused("the component is damaged or needs what this host does not support: "), answering()[..answering().len() / 2].to_vec();
    /// A module that is no component.
    core_module: refused("the file is a core WebAssembly module and not a component"), guest::module(&pass_through());
    /// Imports that nobody grants.
    refused_imports: refused("the component imports what it is not granted: "), ungranted();
    /// Nothing that the host could call.
    useless: refused("the component exports none of "), component("useless", r#"(func (export "run"))"#);
    /// Exports the right name with another type.
    wrong_type: refused("is not as the contract says"),
        component_of("package sandmill:plugin@0.1.0; interface preprocess { preprocess: func(x: string); } world guest { export preprocess; }",
            r#"(func (export "sandmill:plugin/preprocess@0.1.0#preprocess") (param i32 i32))"#);
    /// A start function of the component's own.
    component_start: refused("the component is damaged or needs what this host does not support: "), bombs::with_start(answering());
    /// Memory of 64 bits.
    memory64: refused("the component is damaged or needs what this host does not support: "), with_core("(memory i64 1)");
    /// Memory that threads share.
    shared_memory: refused("the component is damaged or needs what this host does not support: "),
        with_core("(memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0))))");
    /// Objects of a garbage collector.
    garbage_collection: refused("the component is damaged or needs what this host does not support: "),
        with_core("(type $pair (struct (field i32))) (func (drop (struct.new $pair (i32.const 1))))");
    /// Exceptions.
    exceptions: refused("the component is damaged or needs what this host does not support: "),
        with_core("(tag $t) (func (throw $t))");
}

/// An answer without a body.
const EMPTY: &str = "(call $answer (i32.const 200) (i32.const 0) (i32.const 0))";

/// A guest that means well.
pub(crate) fn good() -> Vec<u8> {
    component("processor", &pass_through())
}

/// Another, which answers by itself.
fn answering() -> Vec<u8> {
    pre(EMPTY)
}

/// A hash table in which a request's bytes are the keys, and their own hashes: each is put at the end of its chain.
pub(crate) fn collisions() -> Vec<u8> {
    pre(&format!(
        "(local $at i32) (local $link i32) (local $entries i32)
        (local.set $entries (call $allocate (i32.const 4) (i32.mul (i32.const 4) (local.get 10))))
        (loop $each
            (local.set $link (i32.add (i32.const 1024)
                (i32.mul (i32.const 4) (i32.load8_u (i32.add (local.get 9) (local.get $at))))))
            (block $end (loop $next
                (br_if $end (i32.eqz (i32.load (local.get $link))))
                (local.set $link (i32.load (local.get $link)))
                (br $next)))
            (i32.store (local.get $link) (i32.add (local.get $entries) (i32.mul (i32.const 4) (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $each (i32.lt_u (local.get $at) (local.get 10))))
        {EMPTY}"
    ))
}

/// `preprocess` with this body alone.
fn pre(body: &str) -> Vec<u8> {
    with("", body)
}

/// `preprocess` with this body, and this before it.
fn with(text: &str, body: &str) -> Vec<u8> {
    component("preprocessor", &format!("{text} {}", preprocess(body)))
}

/// `init` with this body, this before it, and a `preprocess` that answers.
fn with_init(body: &str, text: &str) -> Vec<u8> {
    component("preprocessor-with-init", &format!("{text} {} {}", init(body), preprocess(EMPTY)))
}

/// What is called when the host has read the answer of `preprocess`.
fn post_return(body: &str) -> String {
    format!(r#"(func (export "cabi_post_sandmill:plugin/preprocess@0.1.0#preprocess") (param i32) {body})"#)
}

/// A good component with a module of this text more.
fn with_core(text: &str) -> Vec<u8> {
    bombs::with_module(answering(), &wat::parse_str(format!("(module {text})")).expect("the module's text is valid"))
}

/// The prelude's tensor of four bytes, with something of it changed.
fn tensor_with(change: &str) -> Vec<u8> {
    pre(&format!("(drop (call $tensor (i32.const 512) (i32.const 4))) {change} (i32.const 16)"))
}

/// The prelude's answer, with something of it changed.
fn answer_with(change: &str) -> Vec<u8> {
    pre(&format!("(drop {EMPTY}) {change} (i32.const 16)"))
}

/// An allocator that always gives this address, and an answer that is made without it.
fn realloc(address: &str) -> Vec<u8> {
    with(&format!(r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {address})"#), EMPTY)
}

/// A function of this name traps: the text is as in WebAssembly's text form.
fn named(name: &str) -> Vec<u8> {
    with(
        &format!(
            r#"(func $"{name}" (param i32) (if (local.get 0) (then (call $"{name}" (i32.sub (local.get 0) (i32.const 1))))) unreachable)"#
        ),
        &format!(r#"(call $"{name}" (i32.const 30)) unreachable"#),
    )
}

/// A C++ name in which each type is made of the one before, twice.
fn exploding_name(levels: usize) -> String {
    // `S_` is the template, `S0_` its first instance, and so on in base 36.
    let digits = |at: usize| char::from_digit(u32::try_from(at).expect("small") % 36, 36).expect("a digit").to_ascii_uppercase();
    let number = |at: usize| if at < 36 { digits(at).to_string() } else { format!("1{}", digits(at - 36)) };
    let level = |at: usize| format!("S_IS{0}_S{0}_E", number(at));
    format!("_Z1f1AIiiE{}", (0..levels).map(level).collect::<String>())
}

/// A module that exports one name twice, and is refused by that name.
fn evil_module() -> Vec<u8> {
    let text = |name: &str| format!(r#"(module (func $f) (export "x\1b[31m\0aforged" (func $f)) (export "{name}" (func $f)))"#);
    let mut module = wat::parse_str(text(r"y\1b[31m\0aforged")).expect("the module's text is valid");
    let place = module.iter().rposition(|byte| *byte == b'y').expect("the name is there");
    module[place] = b'x';
    module
}

/// Frames of some 40 KB: all their vectors are alive across the call.
fn recursion_of_wide_frames() -> String {
    const WIDTH: usize = 2_500;
    let locals = "v128 ".repeat(WIDTH);
    let sets: String = (0..WIDTH).map(|at| format!("(local.set {at} (v128.load (i32.const {})))", 16 * at)).collect();
    let gets: String = (0..WIDTH).map(|at| format!("(v128.store (i32.const {}) (local.get {at}))", 16 * at)).collect();
    format!("(func $wide (local {locals}) {sets} (call $wide) {gets})")
}

/// Of its two memories the first is the sparse one; the second, which the host reads, is the prelude's.
fn two_memories_one_sparse() -> Vec<u8> {
    with(
        r#"(memory 900) (data (i32.const 0) "x") (data (i32.const 58900000) "x")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))"#,
        "(i32.store8 1 (i32.const 20) (i32.const 1)) (i32.store16 1 (i32.const 24) (i32.const 200)) (i32.const 16)",
    )
}

fn all_memory_again_and_again() -> Vec<u8> {
    pre(&format!(
        "(local $i i32) {GROW} (drop (call $tensor (i32.const 0) (i32.const 30000000)))
        (loop (memory.copy (i32.add (i32.const 4096) (i32.mul (i32.const 28) (local.get $i))) (i32.const 64) (i32.const 28))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 64))))
        (call $tensors (i32.const 4096) (i32.const 64))"
    ))
}

fn header_with_a_line_break() -> Vec<u8> {
    answer_with(
        "(i32.store (i32.const 600) (i32.const 104)) (i32.store (i32.const 604) (i32.const 1))
        (i32.store (i32.const 608) (i32.const 620)) (i32.store (i32.const 612) (i32.const 8))
        (i64.store (i32.const 620) (i64.const 0x78203a780a0d7878))
        (i32.store (i32.const 28) (i32.const 600)) (i32.store (i32.const 32) (i32.const 1))",
    )
}

/// Calls a function of the host's with 48 MB twenty times, and answers.
fn long_calls(import: &str, before: &str, after: &str) -> Vec<u8> {
    with(
        import,
        &format!(
            "(local $i i32) {GROW}
            (loop {before} {FREE} (i32.const 48000000) {after}
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (i32.const 20))))
            {EMPTY}"
        ),
    )
}

fn runs_no_model_for_ever() -> Vec<u8> {
    let call = "(call $infer (i32.const 104) (i32.const 1) (i32.const 600) (i32.const 0) (i32.const 700))";
    // What the host answers, an error's words, needs room each time: a piece that is written over.
    let allocator = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (if (i32.gt_u (local.get 3) (i32.const 60000)) (then (return (call $allocate (local.get 2) (local.get 3))))) (i32.const 2048))"#;
    component("request-handler", &format!("{INFER} {allocator} {}", handle(&format!("(loop {call} (br 0)) unreachable"))))
}

fn ungranted() -> Vec<u8> {
    let imports = [
        ("wasi:sockets/tcp-create-socket@0.2.6", "create", "(result i32)"),
        ("wasi:http/outgoing-handler@0.2.6", "handle", "(result i32)"),
        ("wasi:clocks/monotonic-clock@0.3.0", "now", "(result i64)"),
        ("acme:store/blobs@1.0.0", "get", "(result i32)"),
        ("$root", "bare", ""),
    ];
    let text: String =
        imports.iter().map(|(interface, function, ty)| format!(r#"(import "{interface}" "{function}" (func {ty}))"#)).collect();
    component("ungranted", &(text + &pass_through()))
}

/// The prelude's tensor with a change, of a guest whose texts are in another encoding.
fn encoded(encoding: StringEncoding, change: &str) -> Vec<u8> {
    let body = format!("(drop (call $tensor (i32.const 512) (i32.const 4))) {change} (i32.const 16)");
    let mut module = guest::module(&preprocess(&body));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(guest::contract_folder()).expect("the contract is valid WIT");
    let world = resolve.select_world(&[package], Some("preprocessor")).expect("there is such a world");
    embed_component_metadata(&mut module, &resolve, world, encoding).expect("the world can be embedded");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).expect("the module keeps to its world")
}
