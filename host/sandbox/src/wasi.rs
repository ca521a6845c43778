//! Stand-ins for what a component built for `wasm32-wasip2` imports whether it needs it or not: no environment, arguments or
//! folders, empty standard input, output to the plugin's log. Clocks, secure randomness and `exit` end the guest, by name.
//! What a function is granted takes the place of its stand-in. Sockets are not here: the contract refuses them at load.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sandmill_domain::Grants;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, async_trait};
use wasmtime_wasi_io::IoView;

use crate::asset_files::GUEST_PATH;
use crate::fault::Forbidden;
use crate::lines::{LINE_BYTES_MAX, Lines};
use crate::state::{Facts, State};
use crate::{granted, outgoing};

/// Streams, errors and pollables that a guest holds at once.
const HANDLES_MAX: usize = 256;
/// The same of a guest that may open files: each may be a descriptor of the host's.
const FILE_HANDLES_MAX: usize = 16;
/// Bytes of insecure randomness in one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

pub(crate) const MONOTONIC_CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";
pub(crate) const WALL_CLOCK: &str = "wasi:clocks/wall-clock@0.2.12";
pub(crate) const RANDOM: &str = "wasi:random/random@0.2.12";
const INSECURE_SEED: &str = "wasi:random/insecure-seed@0.2.12";
/// The seed of every snapshot.
const SEED: u64 = 0x5a6d_6d69_6c6c_0001;
const EXIT: &str = "wasi:cli/exit@0.2.12";

/// Every function that a component may import, but not call.
const FORBIDDEN: [(&str, &str, Forbidden); 10] = [
    (MONOTONIC_CLOCK, "now", Forbidden::NotGranted("wasi:clocks/monotonic-clock.now")),
    (MONOTONIC_CLOCK, "resolution", Forbidden::NotGranted("wasi:clocks/monotonic-clock.resolution")),
    (MONOTONIC_CLOCK, "subscribe-instant", Forbidden::NotGranted("wasi:clocks/monotonic-clock.subscribe-instant")),
    (MONOTONIC_CLOCK, "subscribe-duration", Forbidden::NotGranted("wasi:clocks/monotonic-clock.subscribe-duration")),
    (WALL_CLOCK, "now", Forbidden::NotGranted("wasi:clocks/wall-clock.now")),
    (WALL_CLOCK, "resolution", Forbidden::NotGranted("wasi:clocks/wall-clock.resolution")),
    (RANDOM, "get-random-bytes", Forbidden::NotGranted("wasi:random/random.get-random-bytes")),
    (RANDOM, "get-random-u64", Forbidden::NotGranted("wasi:random/random.get-random-u64")),
    (EXIT, "exit", Forbidden::Exit("wasi:cli/exit.exit")),
    (EXIT, "exit-with-code", Forbidden::Exit("wasi:cli/exit.exit-with-code")),
];

/// What a guest holds of WASI.
pub(crate) struct Wasi {
    context: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Wasi {
    /// Makes it when it is first asked for.
    pub(crate) fn of<'a>(slot: &'a mut Option<Box<Self>>, lines: &Arc<Lines>, facts: &Facts) -> &'a mut Self {
        slot.get_or_insert_with(|| {
            let made = Self::new(lines, facts).or_else(|error| {
                // The folder is gone: somebody has tidied the disk. The guest finds none.
                tracing::warn!(function = &*facts.name, "the plugin's folder of assets cannot be opened: {error:#}");
                Self::new(lines, &Facts::bare(&facts.name))
            });
            Box::new(made.expect("invariant: without a folder nothing can fail"))
        })
    }

    fn new(lines: &Arc<Lines>, facts: &Facts) -> wasmtime::Result<Self> {
        let mut context = WasiCtx::builder();
        context
            .stdout(LogStream::new(lines, Level::INFO))
            .stderr(LogStream::new(lines, Level::WARN))
            .max_random_size(RANDOM_BYTES_MAX)
            .envs(&facts.grants.environment);
        if let Some(folder) = &facts.asset_folder {
            context.preopened_dir(folder.path(), GUEST_PATH, FsPerms::ReadOnly)?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(if facts.asset_folder.is_some() { FILE_HANDLES_MAX } else { HANDLES_MAX });
        Ok(Self { context: context.build(), table })
    }
}

impl State {
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        let Self { wasi, lines, facts, .. } = self;
        Wasi::of(wasi, lines, facts)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { context, table } = self.wasi();
        WasiCtxView { ctx: context, table }
    }
}

impl IoView for State {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.wasi().table
    }
}

/// Makes the interfaces known to the linker, one by one; a component may import any 0.2 version of them.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    linker.instance(INSECURE_SEED)?.func_wrap("insecure-seed", |store: StoreContextMut<'_, State>, (): ()| {
        Ok((if store.data().starting { (SEED, SEED) } else { (random_word(), random_word()) },))
    })?;
    link_forbidden(linker)
}

/// Puts what is granted in the place of what refuses.
pub(crate) fn link_granted(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    if grants.wall_clock {
        granted::link_wall_clock(linker)?;
    }
    if grants.monotonic_clock {
        granted::link_monotonic_clock(linker)?;
    }
    if grants.randomness {
        granted::link_randomness(linker)?;
    }
    if !grants.http.is_empty() {
        outgoing::link(linker)?;
    }
    Ok(())
}

/// While a snapshot is made, a seed is the same each time: the snapshot is what its function, its settings and its files make it.
/// What sends requests is there, so that it can be imported, and denies all of them.
pub(crate) fn link_for_init(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    outgoing::link(linker)?;
    link_forbidden_in_init(linker)?;
    linker.instance(INSECURE_SEED)?.func_wrap("insecure-seed", |_, (): ()| Ok(((SEED, SEED),)))
}

/// While a snapshot is made, also what is granted refuses.
fn link_forbidden_in_init(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for (interface, function, fault) in FORBIDDEN {
        let Forbidden::NotGranted(name) = fault else { continue };
        linker.instance(interface)?.func_new(function, move |_, _, _, _| Err(Forbidden::InInit(name).into()))?;
    }
    Ok(())
}

fn link_forbidden(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for functions in FORBIDDEN.chunk_by(|one, next| one.0 == next.0) {
        let mut instance = linker.instance(functions[0].0)?;
        for (_, function, fault) in functions {
            instance.func_new(function, move |_, _, _, _| Err((*fault).into()))?;
        }
    }
    Ok(())
}

/// Differs from call to call and from process to process, as a hash map's seed should; no secret. Rust's standard library
/// asks for one per request, so it is made without the machinery of [`Wasi`].
fn random_word() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A standard stream of the guest that writes whole lines to its log. Every handle to the stream shares the line begun.
#[derive(Clone)]
struct LogStream(Arc<Begun>);

struct Begun {
    lines: Arc<Lines>,
    level: Level,
    text: Mutex<Vec<u8>>,
}

impl LogStream {
    fn new(lines: &Arc<Lines>, level: Level) -> Self {
        Self(Arc::new(Begun { lines: Arc::clone(lines), level, text: Mutex::default() }))
    }
}

impl Begun {
    fn write(&self, mut bytes: &[u8]) {
        if self.lines.is_full() {
            return;
        }
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            text.extend_from_slice(&bytes[..end]);
            self.finish(&mut text);
            bytes = &bytes[end + 1..];
        }
        text.extend_from_slice(bytes);
        if text.len() >= LINE_BYTES_MAX {
            self.finish(&mut text);
        }
    }

    fn finish(&self, text: &mut Vec<u8>) {
        self.lines.write(self.level, &String::from_utf8_lossy(text));
        text.clear();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut text = std::mem::take(self.text.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !text.is_empty() {
            self.finish(&mut text);
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and it is not linked.
        Box::new(tokio::io::empty())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        assert_ne!(random_word(), random_word());
    }
}
