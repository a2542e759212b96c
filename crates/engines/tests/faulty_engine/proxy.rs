//! Between Cove and a real engine: one call a connection, counted, and broken as a test wants.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What happens to calls.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// They are taken and never answered.
    Hang,
    /// These bytes are the answer, whatever was asked; then the connection ends.
    Answer(Vec<u8>),
    /// As [`Answer`](Self::Answer) for calls whose first line holds the text; others fare well.
    AnswerTo(&'static str, Vec<u8>),
    /// Images are never there; whoever fetches one is answered these bytes.
    PullOnly(Vec<u8>),
    /// The n-th call from now (1 is the next) is lost, and all after it.
    LostFrom(usize),
    /// The n-th call from now takes effect and its answer is lost, as all calls after it are.
    UnansweredFrom(usize),
    /// The socket is not there.
    Gone,
}

struct State {
    fault: Fault,
    /// First lines of the calls since the fault was set.
    calls: Vec<String>,
    over: bool,
}

/// The proxy; ended when dropped.
pub struct Proxy {
    socket: PathBuf,
    aside: PathBuf,
    state: Arc<Mutex<State>>,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens in `directory` and passes on to `engine`.
    pub fn start(directory: &Path, engine: &Path) -> Self {
        let socket = directory.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(Mutex::new(State { fault: Fault::None, calls: Vec::new(), over: false }));
        let (shared, engine) = (state.clone(), engine.to_owned());
        let listening = std::thread::spawn(move || {
            let mut serving = Vec::new();
            for client in listener.incoming().flatten() {
                if lock(&shared).over {
                    break;
                }
                let (shared, engine) = (shared.clone(), engine.clone());
                serving.push(std::thread::spawn(move || serve(client, &engine, &shared)));
                serving.retain(|thread| !thread.is_finished());
            }
        });
        Self { aside: directory.join("aside.sock"), socket, state, listening: Some(listening) }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        let gone = matches!(fault, Fault::Gone);
        {
            let mut state = lock(&self.state);
            state.fault = fault;
            state.calls.clear();
        }
        match (gone, self.socket.exists()) {
            (true, true) => std::fs::rename(&self.socket, &self.aside).unwrap(),
            (false, false) => std::fs::rename(&self.aside, &self.socket).unwrap(),
            _ => {}
        }
    }

    /// First lines of the calls since the fault was set.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.state).calls.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Fault::None);
        lock(&self.state).over = true;
        let _ = UnixStream::connect(&self.socket);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call.
fn serve(mut client: UnixStream, engine: &Path, state: &Mutex<State>) {
    let Some((head, body)) = read_head(&mut client) else { return };
    let first = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let (fault, number) = {
        let mut state = lock(state);
        state.calls.push(first.clone());
        (state.fault.clone(), state.calls.len())
    };
    match fault {
        Fault::Hang => {
            // Until the caller gives up.
            let _ = client.read_to_end(&mut Vec::new());
        }
        Fault::Answer(bytes) => {
            let _ = client.write_all(&bytes);
            drain(&client);
        }
        Fault::AnswerTo(text, bytes) if first.contains(text) => {
            let _ = client.write_all(&bytes);
            drain(&client);
        }
        Fault::PullOnly(bytes) => {
            let absent = b"HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\n{\"message\":\"no such image\"}";
            let _ = client.write_all(if first.contains("/images/create") { &bytes } else { absent });
            drain(&client);
        }
        Fault::LostFrom(n) if number >= n => {}
        Fault::UnansweredFrom(n) if number > n => {}
        Fault::UnansweredFrom(n) if number == n => pass(client, engine, &head, &body, false),
        _ => pass(client, engine, &head, &body, true),
    }
}

/// Reads what comes so that closing does not cut off the answer.
fn drain(client: &UnixStream) {
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.set_read_timeout(Some(std::time::Duration::from_millis(200)));
    let _ = std::io::copy(&mut &*client, &mut std::io::sink());
}

/// The head with its empty line, and what came after it.
fn read_head(client: &mut UnixStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some((bytes, body));
        }
        if bytes.len() > 1 << 16 {
            return None;
        }
    }
}

fn pass(client: UnixStream, engine: &Path, head: &[u8], body: &[u8], answered: bool) {
    let Ok(mut upstream) = UnixStream::connect(engine) else { return };
    // One call a connection, so that connections can be counted instead of parsed.
    let line = head.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut sent = head[..line].to_vec();
    sent.extend_from_slice(b"Connection: close\r\n");
    sent.extend_from_slice(&head[line..]);
    sent.extend_from_slice(body);
    if upstream.write_all(&sent).is_err() {
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &client, &mut &upstream);
        });
        if answered {
            let _ = std::io::copy(&mut &upstream, &mut &client);
        } else {
            // It has taken effect when the answer begins.
            let _ = (&upstream).read(&mut [0; 1]);
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = upstream.shutdown(Shutdown::Both);
    });
}
