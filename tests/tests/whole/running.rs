//! Servers of other houses that a test starts.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};

/// A server, stopped at the end.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a server, and waits until a line of what `said` takes from it holds `ready`.
    pub(crate) fn start<R: Read + Send + 'static>(
        mut command: Command,
        said: impl FnOnce(&mut Child) -> R,
        ready: &str,
    ) -> Self {
        let mut server = Self(command.spawn().unwrap());
        // It may hold an end of the pipe that is read.
        drop(command);
        let mut said = BufReader::new(said(&mut server.0)).lines();
        assert!(said.by_ref().any(|line| line.unwrap().contains(ready)), "the server ended before `{ready}`");
        // What nobody reads would stop it.
        std::thread::spawn(move || said.for_each(drop));
        server
    }
}
