//! Compiling a component to machine code, in a process of its own where there is one to start.
//!
//! The compiler reads what a stranger wrote and may take any time and memory over it. So the binary
//! starts itself once more with limits, hands the component over by standard input and takes the
//! code from standard output. Tests and benches compile in their own process.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use wasmtime::Engine;

use crate::error::PluginError;
use crate::host;
use crate::limit::COMPONENT_BYTES_MAX;

/// CPU time (seconds) and address space (bytes) of a compiling process.
const CPU_SECONDS_MAX: u64 = 10;
const ADDRESS_BYTES_MAX: u64 = 1 << 30;

/// Where components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compile {
    /// In this process, without limits besides those of size.
    Here,
    /// In a child process: this program with these arguments must call [`compile_in_child`].
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl Compile {
    pub(crate) fn run(&self, engine: &Engine, component: &[u8]) -> Result<Vec<u8>, PluginError> {
        match self {
            Self::Here => precompile(engine, component).map_err(PluginError::Refused),
            Self::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).env_clear();
                child(&mut command, component)
            }
        }
    }
}

fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    // The parts of the message that name our own call are of no use to a plugin's author.
    engine.precompile_component(component).map_err(|error| {
        format!(
            "is no component that can be compiled: {}",
            error.root_cause()
        )
    })
}

fn child(command: &mut Command, component: &[u8]) -> Result<Vec<u8>, PluginError> {
    let failed =
        |error: std::io::Error| PluginError::host(format!("no process to compile in: {error}"));
    let mut child = (command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()))
    .spawn()
    .map_err(failed)?;
    // A child that ends before it has read everything says why when it is waited for.
    let sent = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(component));
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        sent.map_err(failed)?;
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let signal = output.status.signal();
    Err(match output.status.code() {
        Some(1) => PluginError::Refused(said),
        _ if signal == Some(libc::SIGXCPU) => PluginError::refused(format!(
            "takes more than {CPU_SECONDS_MAX} s of CPU time to compile"
        )),
        // As by the system when memory is short.
        _ if signal == Some(libc::SIGKILL) => {
            PluginError::host("the process that compiles it was killed")
        }
        _ => PluginError::refused(format!(
            "cannot be compiled within {} MiB of memory ({}{said})",
            ADDRESS_BYTES_MAX >> 20,
            output.status,
        )),
    })
}

/// The child's side: compiles standard input to standard output within limits.
///
/// # Errors
/// What is wrong with the component; to be printed on standard error with exit status 1.
pub fn compile_in_child() -> Result<(), String> {
    // At the first of the two the process hears why it ends, by SIGXCPU.
    limit(libc::RLIMIT_CPU, CPU_SECONDS_MAX, CPU_SECONDS_MAX + 1)?;
    limit(libc::RLIMIT_AS, ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX)?;
    let mut component = Vec::new();
    let most = COMPONENT_BYTES_MAX as u64 + 1;
    let io = |error: std::io::Error| format!("no component on standard input: {error}");
    (std::io::stdin().take(most).read_to_end(&mut component)).map_err(io)?;
    let engine = host::engine().map_err(|error| error.to_string())?;
    let code = precompile(&engine, &component)?;
    let mut out = std::io::stdout().lock();
    (out.write_all(&code).and_then(|()| out.flush())).map_err(|error| error.to_string())
}

#[allow(
    unsafe_code,
    reason = "the standard library does not set limits of a process"
)]
fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> Result<(), String> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the pointer is to a value of ours that the call only reads.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(format!(
            "limits cannot be set: {}",
            std::io::Error::last_os_error()
        )),
    }
}
