//! The parent's side: start a child, hand it the job, watch the time, take the answer or find out what it died of.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thiserror::Error;

use crate::limits::QuarantineLimits;
use crate::message;
use crate::turns::Turns;
use crate::urgency;

/// What is kept of a child's last words.
const WORDS_BYTES_MAX: u64 = 4 << 10;
/// How often it is looked whether a child that has closed its socket has ended: it does so at once, or never.
const POLL: Duration = Duration::from_millis(2);
/// What is told of them.
const TOLD_BYTES_MAX: usize = 300;

/// How a child of this binary is started so that it comes to [`crate::serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(OsString, OsString)>,
}

impl Program {
    /// This very binary, even if another lies in its place by now.
    pub fn this(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { path: "/proc/self/exe".into(), args: args.into_iter().map(Into::into).collect(), env: Vec::new() }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Death {
    /// All turns were taken.
    #[error("no child process was free for {0:?}")]
    Busy(Duration),
    /// It did not start.
    #[error("no child process can be started")]
    Start(#[source] io::Error),
    /// Its time was over.
    #[error("it took longer than {0:?} and was ended")]
    Time(Duration),
    /// Its processor time was over.
    #[error("it took more than {0:?} of processor time and was ended")]
    CpuTime(Duration),
    /// A signal.
    #[error("it was ended by signal {signal}{}", told(words))]
    Signal {
        /// Which.
        signal: i32,
        /// What it said before.
        words: String,
    },
    /// It ended by itself without an answer.
    #[error("it ended without an answer ({status}){}", told(words))]
    Exit {
        /// How.
        status: ExitStatus,
        /// What it said before.
        words: String,
    },
    /// More than the parent takes.
    #[error("its answer is larger than {0} bytes")]
    Answer(u64),
}

impl Death {
    /// Whether the job is not at fault: it may do another time.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Start(_))
    }
}

fn told(words: &str) -> String {
    let words = words.trim();
    if words.is_empty() { String::new() } else { format!(": {}", &words[..words.floor_char_boundary(TOLD_BYTES_MAX)]) }
}

/// Runs jobs, each in a child of its own.
pub struct Quarantine {
    program: Program,
    limits: QuarantineLimits,
    turns: Turns,
}

impl Quarantine {
    /// At most `children_max` at once.
    pub fn new(program: Program, limits: QuarantineLimits, children_max: usize) -> Self {
        Self { program, limits, turns: Turns::new(children_max.max(1)) }
    }

    /// Has the job done. Blocks for as long as it takes, and before that for its turn; each for the wall time at most.
    ///
    /// # Errors
    /// How the child ended, if not with an answer.
    pub fn run(&self, job: &[u8]) -> Result<Vec<u8>, Death> {
        let _turn = self.turns.take(self.limits.wall_time).ok_or(Death::Busy(self.limits.wall_time))?;
        // On a thread of its own, whose urgency the child has from its first moment on: to start is already work.
        thread::scope(|scope| {
            let apart = thread::Builder::new().name("quarantine".to_owned()).spawn_scoped(scope, || self.run_apart(job));
            apart.map_err(Death::Start)?.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn run_apart(&self, job: &[u8]) -> Result<Vec<u8>, Death> {
        urgency::lower().map_err(Death::Start)?;
        let mut running = Running::start(&self.program, self.limits).map_err(Death::Start)?;
        match running.exchange(job) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Death::Answer(self.limits.answer_bytes_max)),
            Err(error) => Err(running.cause(&error)),
        }
    }
}

/// A child under way; killed and reaped when it is dropped.
struct Running {
    child: Child,
    socket: UnixStream,
    limits: QuarantineLimits,
    end: Instant,
}

impl Running {
    fn start(program: &Program, limits: QuarantineLimits) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(&program.path)
            .args(&program.args)
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child, socket, limits, end: Instant::now() + limits.wall_time })
    }

    fn exchange(&mut self, job: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.write_all(&self.limits.to_bytes())?;
        self.write_all(&(job.len() as u64).to_le_bytes())?;
        self.write_all(job)?;
        message::read(&mut Timed(self), self.limits.answer_bytes_max)
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.socket.set_write_timeout(Some(self.left()?))?;
            match (&self.socket).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// What the child died of, now that it is of no more use.
    fn cause(&mut self, error: &io::Error) -> Death {
        use io::ErrorKind::{TimedOut, WouldBlock};
        if matches!(error.kind(), TimedOut | WouldBlock) {
            return Death::Time(self.limits.wall_time);
        }
        // It has closed its end: it is as good as dead, but one that is not has no more time than any.
        let Some(status) = self.wait() else { return Death::Time(self.limits.wall_time) };
        let words = self.last_words();
        match status {
            Ok(status) if status.signal() == Some(Signal::XCPU.as_raw()) => Death::CpuTime(self.limits.cpu_time),
            Ok(status) if status.signal() == Some(Signal::KILL.as_raw()) && self.cpu_is_spent() => {
                Death::CpuTime(self.limits.cpu_time)
            }
            Ok(status) => match status.signal() {
                Some(signal) => Death::Signal { signal, words },
                None => Death::Exit { status, words },
            },
            Err(error) => Death::Start(error),
        }
    }

    /// How it ended; none if it has not when its time is over.
    fn wait(&mut self) -> Option<io::Result<ExitStatus>> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(Ok(status)),
                Ok(None) if self.left().is_err() => return None,
                Ok(None) => thread::sleep(POLL),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The kernel sends SIGKILL at the hard limit, which is the soft one here.
    fn cpu_is_spent(&self) -> bool {
        self.limits.wall_time.saturating_sub(self.end.saturating_duration_since(Instant::now())) >= self.limits.cpu_time
    }

    /// Of a child that has ended.
    fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _what_there_is = stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words);
        }
        String::from_utf8_lossy(&words).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it stays.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads until the child's time is over.
struct Timed<'a>(&'a Running);

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.socket.set_read_timeout(Some(self.0.left()?))?;
        (&self.0.socket).read(buffer)
    }
}
