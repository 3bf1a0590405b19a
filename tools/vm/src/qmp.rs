// SPDX-License-Identifier: GPL-2.0

//! QEMU's monitor: the one command that is sent to a hung guest, and the greeting before it.
//!
//! The crate qapi has every command of QEMU, which it generates from QEMU's schema when it is built:
//! eight more crates for what are forty lines here.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

/// A QEMU that does not respond for this long is not asked again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the monitor.
pub struct Monitor {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and leaves the negotiation mode.
    pub fn connect(socket: &Path) -> Result<Monitor> {
        let writer = UnixStream::connect(socket)
            .with_context(|| format!("cannot reach QEMU's monitor {}", socket.display()))?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        writer.set_write_timeout(Some(TIMEOUT))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut monitor = Monitor { writer, reader };
        if monitor.read()?.get("QMP").is_none() {
            bail!("{} is not QEMU's monitor", socket.display());
        }
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Executes a command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").context("cannot write to QEMU's monitor")?;
        loop {
            // Events may stand between the request and its reply.
            let mut reply = self.read()?;
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = reply.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let n = self
            .reader
            .read_line(&mut line)
            .context("QEMU's monitor does not respond")?;
        if n == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).context("the reply of QEMU's monitor is not JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn events_are_not_replies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut out = stream.try_clone().unwrap();
            let mut lines = BufReader::new(stream).lines();
            writeln!(out, r#"{{"QMP": {{"version": {{}}}}}}"#).unwrap();
            let first = lines.next().unwrap().unwrap();
            assert!(first.contains("qmp_capabilities"), "{first}");
            writeln!(out, r#"{{"return": {{}}}}"#).unwrap();
            lines.next().unwrap().unwrap();
            writeln!(out, r#"{{"event": "RESET"}}"#).unwrap();
            writeln!(out, r#"{{"return": {{"running": true}}}}"#).unwrap();
            lines.next().unwrap().unwrap();
            writeln!(out, r#"{{"error": {{"class": "GenericError"}}}}"#).unwrap();
        });
        let mut m = Monitor::connect(&path).unwrap();
        assert_eq!(
            m.execute("query-status", json!({})).unwrap()["running"],
            true
        );
        assert!(m.execute("nonsense", json!({})).is_err());
        server.join().unwrap();
    }

    #[test]
    fn no_monitor() {
        let err = Monitor::connect(Path::new("/nonexistent/qmp.sock"))
            .err()
            .unwrap();
        assert!(err.to_string().contains("cannot reach QEMU's monitor"));
    }
}
