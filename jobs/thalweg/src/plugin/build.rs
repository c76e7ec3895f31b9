//! `thalweg plugin build`: a component out of a Rust crate, with whatever toolchain there is.
//!
//! A component is what `wasm-component-ld` links, which comes with every toolchain of rustup. The
//! standard library for `wasm32-unknown-unknown` is either installed there, or built along from
//! Debian's sources.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Inspected;
use crate::Failure;
use crate::terminal::print;

const TARGET: &str = "wasm32-unknown-unknown";
const LINKER: &str = "wasm-component-ld";
const DEBIAN: &str = "/usr/bin";

pub(super) fn build(dir: &Path, out: Option<&Path>, json: bool) -> Result<(), Failure> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Failure::User(format!(
            "{} has no Cargo.toml",
            dir.display()
        )));
    }
    let artifact = Toolchain::find(dir)?.build(dir)?;
    let name = artifact.file_name().map(PathBuf::from).unwrap_or_default();
    let out = out.map_or_else(|| dir.join(&name), Path::to_owned);
    // It is looked into before it is put where a job finds it.
    let inspected = Inspected::of(&artifact)?;
    let write = || {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(&artifact, &out)?;
        std::fs::write(hash_file(&out), format!("{}\n", inspected.sha256))
    };
    write()
        .map_err(|error: std::io::Error| Failure::User(format!("{}: {error}", out.display())))?;
    if json {
        return Ok(print(&format!("{}\n", inspected.json(&out)))?);
    }
    let plugin = out
        .file_stem()
        .map(|stem| stem.to_string_lossy().replace('-', "_"));
    Ok(print(&format!(
        "{}\nplugins:\n  {}: {{ path: {}, sha256: {} }}\n",
        inspected.text(&out),
        plugin.unwrap_or_default(),
        out.display(),
        inspected.sha256
    ))?)
}

/// The hash in a file of its own, for `sha256: "${file:…}"`.
fn hash_file(out: &Path) -> PathBuf {
    let mut name = OsString::from(out.as_os_str());
    name.push(".sha256");
    PathBuf::from(name)
}

/// A way to build for [`TARGET`].
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
    /// The standard library is built along.
    build_std: bool,
}

impl Toolchain {
    fn find(dir: &Path) -> Result<Self, Failure> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let sysroot = sysroot(Path::new("rustc"), dir);
        let linker = sysroot
            .as_deref()
            .and_then(linker)
            .or_else(|| on_path(LINKER));
        let installed = |root: &PathBuf| root.join("lib/rustlib").join(TARGET).is_dir();
        let with = |cargo, rustc, build_std| match &linker {
            Some(linker) => Ok(Self {
                cargo,
                rustc,
                linker: linker.clone(),
                build_std,
            }),
            None => Err(Failure::User(format!(
                "{LINKER} is missing, which turns a module into a component; it comes with the \
                 toolchains of https://rustup.rs, or by `cargo install {LINKER}`"
            ))),
        };
        if sysroot.as_ref().is_some_and(installed) {
            return with(cargo, PathBuf::from("rustc"), false);
        }
        let (cargo, rustc) = (
            Path::new(DEBIAN).join("cargo"),
            Path::new(DEBIAN).join("rustc"),
        );
        let debian = self::sysroot(&rustc, dir).filter(|_| cargo.is_file());
        if debian.as_ref().is_some_and(installed) {
            return with(cargo, rustc, false);
        }
        let sources = "lib/rustlib/src/rust/library/std/Cargo.toml";
        if debian.is_some_and(|root| root.join(sources).is_file()) {
            return with(cargo, rustc, true);
        }
        Err(Failure::User(format!(
            "there is no Rust toolchain for {TARGET}; install it by `rustup target add {TARGET}`, \
             or on Debian by `apt-get install rustc-web cargo-web rust-web-src`"
        )))
    }

    /// Builds the crate in `dir`; the component.
    fn build(&self, dir: &Path) -> Result<PathBuf, Failure> {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(dir)
            .args(["build", "--release", "--target", TARGET]);
        command.arg("--message-format=json-render-diagnostics");
        if self.build_std {
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1");
        }
        let linker = Value::String(self.linker.display().to_string());
        command
            .arg("--config")
            .arg(format!("target.{TARGET}.linker={linker}"));
        command.env("RUSTC", &self.rustc).env("PATH", self.path());
        // What is meant for the crates of another build.
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(name);
        }
        let failed = |error: std::io::Error| {
            Failure::User(format!(
                "{} cannot be started: {error}",
                self.cargo.display()
            ))
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut artifact = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                artifact = component(&line.map_err(failed)?, dir).or(artifact);
            }
        }
        if !child.wait().map_err(failed)?.success() {
            return Err(Failure::User(format!("{} does not build", dir.display())));
        }
        artifact.ok_or_else(|| {
            Failure::User(format!(
                "{} makes no component; its Cargo.toml needs crate-type = [\"cdylib\"]",
                dir.display()
            ))
        })
    }

    /// The search path with the linker's companions first: it calls `wasm-ld`.
    fn path(&self) -> OsString {
        let beside = self.linker.parent().map(Path::to_owned).unwrap_or_default();
        let debian = self.build_std.then(|| PathBuf::from(DEBIAN));
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let all = (debian.into_iter())
            .chain([beside.join("gcc-ld"), beside])
            .chain(std::env::split_paths(&rest));
        std::env::join_paths(all).unwrap_or(rest)
    }
}

/// The component that a line of cargo's report tells of, if it is that of the crate in `dir`.
fn component(line: &str, dir: &Path) -> Option<PathBuf> {
    let report: Value = serde_json::from_str(line).ok()?;
    if report.get("reason")? != "compiler-artifact" {
        return None;
    }
    let manifest = Path::new(report.get("manifest_path")?.as_str()?);
    let ours = std::fs::canonicalize(dir.join("Cargo.toml")).ok()?;
    if std::fs::canonicalize(manifest).ok()? != ours {
        return None;
    }
    let files = report
        .get("filenames")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    files
        .map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|e| e == "wasm"))
}

fn sysroot(rustc: &Path, dir: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(dir)
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// The linker among the tools of a toolchain.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    let mut linkers = hosts
        .flatten()
        .map(|host| host.path().join("bin").join(LINKER));
    linkers.find(|linker| linker.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
