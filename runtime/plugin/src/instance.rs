//! One instance of a plugin at work.

use std::time::Duration;

use wasmtime::component::{Component, Func, InstancePre, Linker};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::cpu;
use crate::host::Host;
use crate::limit::{Limits, RETURNED_BYTES_MAX, START, Usage};
use crate::trap::{Failed, Kind, OutOfTime, classify, clean};
use crate::wire;

/// Most lines of log that one call may write; the others are dropped.
const LOG_LINES_MAX: u32 = 20;
/// The level of an error, as `host.log` numbers them.
const ERROR: u8 = 4;

/// What the host knows of a guest while it runs.
pub(crate) struct Guest {
    usage: Usage,
    /// CPU time of this thread at which the call has to be over.
    deadline: Duration,
    /// The last error that the call has logged.
    said: Option<String>,
    lines: u32,
    plugin: std::sync::Arc<str>,
}

/// A component that is ready to be instantiated.
#[derive(Clone)]
pub(crate) struct Ready {
    host: Host,
    pre: InstancePre<Guest>,
    limits: Limits,
    sha256: std::sync::Arc<str>,
}

impl Ready {
    /// Links a component to what the host serves.
    pub(crate) fn new(
        host: &Host,
        component: &Component,
        limits: Limits,
        sha256: std::sync::Arc<str>,
    ) -> wasmtime::Result<Self> {
        let pre = linker(&host.engine)?.instantiate_pre(component)?;
        Ok(Self {
            host: host.clone(),
            pre,
            limits,
            sha256,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn sha256(&self) -> &std::sync::Arc<str> {
        &self.sha256
    }

    /// A fresh instance.
    pub(crate) fn instantiate(&self) -> Result<Instance, Failed> {
        let guest = Guest {
            usage: Usage::new(&self.limits),
            deadline: cpu::thread() + START,
            said: None,
            lines: 0,
            plugin: std::sync::Arc::clone(&self.sha256),
        };
        let mut store = Store::new(&self.host.engine, guest);
        store.limiter(|guest| &mut guest.usage);
        store.set_hostcall_fuel(RETURNED_BYTES_MAX);
        store.epoch_deadline_callback(|context| {
            if cpu::thread() < context.data().deadline {
                Ok(UpdateDeadline::Continue(1))
            } else {
                Err(OutOfTime.into())
            }
        });
        // Start functions run here.
        store.set_epoch_deadline(1);
        let made = self.host.ticker.during(|| self.pre.instantiate(&mut store));
        let instance = made.map_err(|error| classify(&error, store.data().said.as_deref()))?;
        let missing = |what: &str| Failed::output(format!("{} has no {what}", wire::SCALAR));
        let interface = instance.get_export_index(&mut store, None, wire::SCALAR);
        let interface = interface.ok_or_else(|| missing("functions"))?;
        let mut function = |name: &str| {
            let index = instance.get_export_index(&mut store, Some(&interface), name);
            (index.and_then(|index| instance.get_func(&mut store, index)))
                .ok_or_else(|| missing(name))
        };
        let (describe, call) = (function("describe")?, function("call")?);
        Ok(Instance {
            host: self.host.clone(),
            store,
            describe,
            call,
        })
    }
}

/// An instance. After a failure of kind trap, deadline or output it must not be called again.
pub(crate) struct Instance {
    host: Host,
    store: Store<Guest>,
    describe: Func,
    call: Func,
}

impl Instance {
    /// Bytes of memory that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().usage.memory_bytes()
    }

    /// The functions that the plugin says it has.
    pub(crate) fn describe(&mut self) -> Result<Vec<wire::Function>, Failed> {
        self.begin(START);
        let describe = self
            .describe
            .typed::<(), (Vec<wire::Function>,)>(&self.store);
        let describe = describe.map_err(|error| mistyped("describe", &error))?;
        let Self { host, store, .. } = self;
        let described = host.ticker.during(|| describe.call(&mut *store, ()));
        match described {
            Ok((functions,)) => Ok(functions),
            Err(error) => Err(classify(&error, store.data().said.as_deref())),
        }
    }

    /// Whether `call` is what the contract says.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        let call = self
            .call
            .typed::<(&str, &[wire::Argument<'_>], u32), wire::Answer>(&self.store);
        call.map(drop).map_err(|error| mistyped("call", &error))
    }

    /// Calls a function; `deadline` is CPU time.
    pub(crate) fn call(
        &mut self,
        function: &str,
        arguments: &[wire::Argument<'_>],
        rows: u32,
        deadline: Duration,
    ) -> Result<wire::Returned, Failed> {
        self.begin(deadline);
        let call = self
            .call
            .typed::<(&str, &[wire::Argument<'_>], u32), wire::Answer>(&self.store);
        let call = call.map_err(|error| mistyped("call", &error))?;
        let Self { host, store, .. } = self;
        let answer = host
            .ticker
            .during(|| call.call(&mut *store, (function, arguments, rows)));
        match answer {
            Ok((Ok(returned),)) => Ok(returned),
            Ok((Err(failure),)) => Err(Failed {
                row: failure.row.and_then(|row| usize::try_from(row).ok()),
                ..Failed::new(Kind::Failure, failure.message)
            }),
            Err(error) => Err(classify(&error, store.data().said.as_deref())),
        }
    }

    fn begin(&mut self, deadline: Duration) {
        let guest = self.store.data_mut();
        guest.deadline = cpu::thread() + deadline;
        guest.said = None;
        guest.lines = 0;
        self.store.set_epoch_deadline(1);
    }
}

fn mistyped(what: &str, error: &wasmtime::Error) -> Failed {
    Failed::output(format!(
        "{what} of {} is not of the type that the contract has: {}",
        wire::SCALAR,
        error.root_cause()
    ))
}

/// What the host serves: nothing but the log.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    linker.instance(wire::HOST)?.func_wrap(
        "log",
        |mut context: wasmtime::StoreContextMut<'_, Guest>, (level, message): (u8, String)| {
            let guest = context.data_mut();
            guest.lines = guest.lines.saturating_add(1);
            if level >= ERROR {
                guest.said = Some(clean(&message));
            }
            if guest.lines <= LOG_LINES_MAX {
                let (plugin, message) = (&*guest.plugin, clean(&message));
                match level {
                    0 | 1 => tracing::debug!(plugin, message, "plugin"),
                    2 => tracing::info!(plugin, message, "plugin"),
                    3 => tracing::warn!(plugin, message, "plugin"),
                    // What a panic says goes into the dead letter.
                    _ => tracing::info!(plugin, message, "plugin error"),
                }
            }
            Ok(())
        },
    )?;
    Ok(linker)
}
