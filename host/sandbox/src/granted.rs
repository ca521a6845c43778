//! Clocks and secure randomness for plugins that are granted them: wasmtime's own, but not while an instance runs its `init`, which
//! must come out the same whether it runs once or each time.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::random;
use wasmtime_wasi::random::WasiRandomView;

use crate::fault::Forbidden;
use crate::state::State;
use crate::wasi::{MONOTONIC_CLOCK, RANDOM, WALL_CLOCK};

type Store<'a> = StoreContextMut<'a, State>;

/// The guest's state, unless its `init` runs.
fn state<'a>(store: &'a mut Store<'_>, name: &'static str) -> wasmtime::Result<&'a mut State> {
    if store.data().starting { Err(Forbidden::InInit(name).into()) } else { Ok(store.data_mut()) }
}

pub(crate) fn link_wall_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut clock = linker.instance(WALL_CLOCK)?;
    clock.func_wrap("now", |mut store: Store<'_>, (): ()| {
        let state = state(&mut store, "wasi:clocks/wall-clock.now")?;
        Ok((wall_clock::Host::now(&mut state.clocks())?,))
    })?;
    clock.func_wrap("resolution", |mut store: Store<'_>, (): ()| {
        let state = state(&mut store, "wasi:clocks/wall-clock.resolution")?;
        Ok((wall_clock::Host::resolution(&mut state.clocks())?,))
    })
}

pub(crate) fn link_monotonic_clock(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut clock = linker.instance(MONOTONIC_CLOCK)?;
    clock.func_wrap("now", |mut store: Store<'_>, (): ()| {
        let state = state(&mut store, "wasi:clocks/monotonic-clock.now")?;
        Ok((monotonic_clock::Host::now(&mut state.clocks())?,))
    })?;
    clock.func_wrap("resolution", |mut store: Store<'_>, (): ()| {
        let state = state(&mut store, "wasi:clocks/monotonic-clock.resolution")?;
        Ok((monotonic_clock::Host::resolution(&mut state.clocks())?,))
    })?;
    clock.func_wrap("subscribe-instant", |mut store: Store<'_>, (when,): (u64,)| {
        let state = state(&mut store, "wasi:clocks/monotonic-clock.subscribe-instant")?;
        Ok((monotonic_clock::Host::subscribe_instant(&mut state.clocks(), when)?,))
    })?;
    clock.func_wrap("subscribe-duration", |mut store: Store<'_>, (duration,): (u64,)| {
        let state = state(&mut store, "wasi:clocks/monotonic-clock.subscribe-duration")?;
        Ok((monotonic_clock::Host::subscribe_duration(&mut state.clocks(), duration)?,))
    })
}

pub(crate) fn link_randomness(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut source = linker.instance(RANDOM)?;
    source.func_wrap("get-random-bytes", |mut store: Store<'_>, (length,): (u64,)| {
        let state = state(&mut store, "wasi:random/random.get-random-bytes")?;
        Ok((random::Host::get_random_bytes(state.random(), length)?,))
    })?;
    source.func_wrap("get-random-u64", |mut store: Store<'_>, (): ()| {
        let state = state(&mut store, "wasi:random/random.get-random-u64")?;
        Ok((random::Host::get_random_u64(state.random())?,))
    })
}
