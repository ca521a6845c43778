//! The harness: starts the real binary on free ports, calls it over real sockets, and stops it. Knows no test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything a test waits for: a test that hangs fails here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The project's root.
pub(crate) fn root() -> PathBuf {
    let app = Path::new(env!("CARGO_MANIFEST_DIR"));
    app.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

/// An example's folder, set up and built.
pub(crate) fn example(name: &str) -> PathBuf {
    let folder = root().join("examples").join(name);
    for file in ["model.onnx", "plugin.wasm"] {
        let file = folder.join(file);
        assert!(file.exists(), "{} is missing: run `make setup plugins`", file.display());
    }
    folder
}

/// A folder for one test, with helpers to fill it.
pub(crate) struct Workshop {
    folder: TempDir,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, making its folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes the folder");
        std::fs::write(&path, content).expect("writes the file");
        path
    }

    /// A function folder with the digits model, a `function.toml` of this text, and a plugin if one is given.
    pub(crate) fn function(&self, name: &str, manifest: &str, plugin: Option<&[u8]>) -> PathBuf {
        let manifest = self.write(&format!("{name}/function.toml"), manifest);
        let model = root().join("examples/digits/model.onnx");
        std::fs::copy(model, self.path().join(name).join("model.onnx")).expect("the digits model is there");
        if let Some(plugin) = plugin {
            self.write(&format!("{name}/plugin.wasm"), plugin);
        }
        manifest.parent().expect("a folder").to_owned()
    }
}

/// The binary, with nothing of the developer's environment that changes what it does.
pub(crate) fn sandmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandmill"));
    command.current_dir(root()).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    command
        .env_remove("ORT_DYLIB_PATH")
        .env_remove("ORT_DISABLE_TELEMETRY")
        .env("XDG_CONFIG_HOME", root().join("target/test-config"))
        .env("XDG_DATA_HOME", root().join("target/test-data"))
        .env("XDG_CACHE_HOME", root().join("target/test-cache"))
        .env("XDG_STATE_HOME", root().join("target/test-state"));
    for name in ["SANDMILL_CONTROL", "SANDMILL_FUNCTIONS", "SANDMILL_KEY", "SANDMILL_TENANT"] {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    sandmill().args(arguments).output().expect("the binary runs")
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) control: SocketAddr,
    process: Process,
    log: PathBuf,
    _folder: TempDir,
}

/// The binary under a limit that the shell sets.
fn limited(limit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(sandmill().get_program());
    command
        .current_dir(root())
        .stdin(Stdio::null())
        .env("XDG_CACHE_HOME", root().join("target/test-cache"))
        .env("XDG_STATE_HOME", root().join("target/test-state"));
    command
}

impl Server {
    /// Serves these function folders with default settings.
    pub(crate) fn start(functions: &[PathBuf]) -> Self {
        Self::configured("", functions)
    }

    /// Serves these function folders with this configuration, and waits until it is ready.
    pub(crate) fn configured(config: &str, functions: &[PathBuf]) -> Self {
        Self::ready(Self::spawn(config, functions, sandmill()))
    }

    /// Serves a store with this configuration, and waits until it is ready.
    pub(crate) fn of_store(config: &str, location: &str) -> Self {
        Self::ready(Self::start_with(config, &["--store".as_ref(), location.as_ref()], sandmill()))
    }

    /// Serves these function folders for a user whose home this is, and waits until it is ready.
    pub(crate) fn at_home(home: &Path, functions: &[PathBuf]) -> Self {
        let mut command = sandmill();
        command.env("HOME", home).env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME");
        Self::ready(Self::spawn("", functions, command))
    }

    /// Serves what this configuration says, with these environment variables besides, and waits until it is ready.
    pub(crate) fn with_environment(config: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = sandmill();
        command.envs(variables.iter().copied());
        Self::ready(Self::spawn(config, &[], command))
    }

    /// Serves these function folders under a soft limit of this many file descriptors, and waits until it is ready.
    pub(crate) fn with_descriptors(soft: u32, functions: &[PathBuf]) -> Self {
        Self::ready(Self::spawn("", functions, limited(&format!("ulimit -Sn {soft}"))))
    }

    /// Serves what this configuration says on a machine that takes no file of more than this many blocks, of 512 or 1024 bytes: as a
    /// full disk does, it ends a write in the middle.
    pub(crate) fn with_files_of(blocks: u32, config: &str) -> Self {
        Self::ready(Self::spawn(config, &[], limited(&format!("trap '' XFSZ; ulimit -f {blocks}"))))
    }

    fn ready((server, lines): (Self, Receiver<String>)) -> Self {
        let said = next_line(&lines);
        assert!(said.starts_with("ready"), "the server did not become ready: {said}\n{}", server.log());
        server
    }

    /// Serves these function folders with default settings, and waits only until it says where it listens.
    pub(crate) fn loading(functions: &[PathBuf]) -> Self {
        Self::spawn("", functions, sandmill()).0
    }

    /// A server that listens, and what it will say next.
    fn spawn(config: &str, functions: &[PathBuf], command: Command) -> (Self, Receiver<String>) {
        let arguments: Vec<&OsStr> =
            functions.iter().flat_map(|function| ["--function".as_ref(), function.as_os_str()]).collect();
        Self::start_with(config, &arguments, command)
    }

    fn start_with(config: &str, arguments: &[&OsStr], mut command: Command) -> (Self, Receiver<String>) {
        let folder = TempDir::new().expect("a temporary folder");
        let config_path = folder.path().join("sandmill.toml");
        std::fs::write(&config_path, config).expect("writes the configuration");
        let log = folder.path().join("log");
        command.arg("serve").arg("--config").arg(&config_path).args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.args(arguments);
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("creates the log"));
        let mut process = Process(command.spawn().expect("the binary starts"));
        let lines = read_lines(process.0.stdout.take().expect("a pipe"));
        let said = next_line(&lines);
        let Some((address, control)) = addresses(&said) else {
            panic!("the server does not say where it listens: {said}\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        };
        (Self { address, control, process, log, _folder: folder }, lines)
    }

    /// A connection to the functions' port.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", path, &[], body.as_ref())
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        exchange(self.address, method, path, headers, body)
    }

    /// A metric's value; none if there is no such line.
    pub(crate) fn metric(&self, line: &str) -> Option<f64> {
        let text = exchange(self.control, "GET", "/metrics", &[], b"").text();
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// What was logged so far; all of it once the server has ended.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("reads the log")
    }

    /// The access lines of a log that is JSON.
    pub(crate) fn access_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        self.log().lines().map(parse).filter(|line: &Value| line["target"] == "access").collect()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("the server still runs");
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.0.try_wait().expect("waits") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Nothing in the log looks like a crash.
    fn check_log(&self) {
        let log = self.log();
        for sign in ["a bug in sandmill", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!log.contains(sign), "the log has `{sign}`:\n{log}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_log();
        }
    }
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The lines of a pipe as they come: a thread reads them, so that whoever waits can give up.
fn read_lines(pipe: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // When nobody waits any more the pipe must still not fill.
            let _unheard = sender.send(line);
        }
    });
    lines
}

/// Empty if none comes.
fn next_line(lines: &Receiver<String>) -> String {
    lines.recv_timeout(PATIENCE).unwrap_or_default()
}

/// The functions' and the control address of the first line that a server says.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let address = |word: &'_ str| {
        let word = word.trim_matches(['(', ')', ',']);
        word.strip_prefix("http://").or(word.strip_prefix("https://")).map(str::to_owned)
    };
    let mut found = line.split_whitespace().filter_map(address);
    let mut next = || found.next()?.parse().ok();
    Some((next()?, next()?))
}

/// A server that tests share as long as one of them holds it: a static would outlive the tests, and its process too.
pub(crate) struct Shared<T> {
    start: fn() -> T,
    running: Mutex<Weak<T>>,
}

impl<T> Shared<T> {
    pub(crate) const fn new(start: fn() -> T) -> Self {
        Self { start, running: Mutex::new(Weak::new()) }
    }

    /// The one that runs, or a new one.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new((self.start)());
            *running = Arc::downgrade(&started);
            started
        })
    }
}

/// A connection that gives up after [`PATIENCE`].
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("sets the time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("sets the time-out");
    stream
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The error that every refusal carries.
    pub(crate) fn error(&self) -> String {
        let json = self.json();
        json["error"].as_str().unwrap_or_else(|| panic!("no error: {json}")).to_owned()
    }
}

/// One request on a connection of its own.
pub(crate) fn exchange(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = connect(address);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // A server that refuses early may close before all is written: its answer is what counts.
    let _early = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    read_answer(&mut stream).expect("an answer")
}

/// Reads one answer that is framed by `content-length`.
pub(crate) fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("no status"))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Answer { status, headers, body })
}

/// Waits until the condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not happen: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
