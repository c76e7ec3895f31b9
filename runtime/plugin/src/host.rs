//! The engine that runs guests, and the thread that lets it look at the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Engine, EngineWeak, OptLevel};

use crate::cache::Cache;
use crate::compile::Compile;
use crate::error::PluginError;
use crate::limit::STACK_BYTES;

/// How often a guest that runs is stopped to compare its CPU time with its deadline.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without a call after which the thread sleeps.
const IDLE_TICKS: u32 = 100;

/// Runs the plugins of a process.
///
/// A guest is synchronous and has no threads, no exceptions, no 64-bit memories and no
/// garbage-collected types: fewer features are fewer ways out.
#[derive(Clone)]
pub struct Host {
    pub(crate) engine: Engine,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) compile: Compile,
    pub(crate) cache: Option<Cache>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("compile", &self.compile)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host that compiles as `compile` says and keeps compiled code in `cache`, if there is one.
    ///
    /// # Errors
    /// If this machine cannot run guests.
    pub fn new(compile: Compile, cache: Option<Cache>) -> Result<Self, PluginError> {
        let engine = engine()?;
        let ticker = Ticker::start(engine.weak()).map_err(|error| {
            PluginError::host(format!("no thread for plugin deadlines: {error}"))
        })?;
        Ok(Self {
            engine,
            ticker,
            compile,
            cache,
        })
    }
}

/// The engine: the same settings wherever code is compiled or run.
pub(crate) fn engine() -> Result<Engine, PluginError> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_max_frames(None);
    Engine::new(&config).map_err(|error| PluginError::host(format!("no plugin engine: {error}")))
}

/// Advances the engine's epoch while calls are made.
#[derive(Debug)]
pub(crate) struct Ticker {
    calls: AtomicU64,
    running: AtomicU64,
    parked: AtomicBool,
    thread: Thread,
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Arc<Self>>(1);
        let spawned = std::thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn(move || {
                if let Ok(ticker) = receiver.recv() {
                    tick(&engine, &Arc::downgrade(&ticker), ticker);
                }
            })?;
        let ticker = Arc::new(Self {
            calls: AtomicU64::new(0),
            running: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            thread: spawned.thread().clone(),
        });
        // The thread holds the other end until it has received.
        sender
            .send(Arc::clone(&ticker))
            .map_err(std::io::Error::other)?;
        Ok(ticker)
    }

    /// Ticks while `call` runs.
    pub(crate) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        struct Running<'a>(&'a AtomicU64);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        call()
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

fn tick(engine: &EngineWeak, weak: &std::sync::Weak<Ticker>, first: Arc<Ticker>) {
    drop(first);
    let (mut seen, mut idle) = (0, 0);
    // Ends with the last host.
    while let (Some(engine), Some(ticker)) = (engine.upgrade(), weak.upgrade()) {
        engine.increment_epoch();
        let calls = ticker.calls.load(Ordering::SeqCst);
        let busy = calls != seen || ticker.running.load(Ordering::SeqCst) > 0;
        idle = if busy { 0 } else { idle + 1 };
        seen = calls;
        if idle < IDLE_TICKS {
            drop((engine, ticker));
            std::thread::park_timeout(TICK);
            continue;
        }
        ticker.parked.store(true, Ordering::SeqCst);
        // A call that came in between has seen the flag, or is seen here.
        let calls = ticker.calls.load(Ordering::SeqCst);
        drop(engine);
        if calls == seen {
            let flag = Arc::downgrade(&ticker);
            drop(ticker);
            std::thread::park();
            if let Some(ticker) = flag.upgrade() {
                ticker.parked.store(false, Ordering::SeqCst);
            }
        } else {
            ticker.parked.store(false, Ordering::SeqCst);
        }
        idle = 0;
    }
}
