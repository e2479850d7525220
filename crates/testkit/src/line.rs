//! The line between a school and the server, which can fail in the ways lines do: a TCP proxy on this computer.
//!
//! It stands where TCP ends, so that a lost packet is what TCP makes of it: a pause, now and then a connection that breaks.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::chance::Chance;

/// How soon a connection that carries nothing notices that the line is cut.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 16 << 10;
/// On a lossy line one read in so many waits for a packet to be sent again, and one in so many ends its connection.
const PAUSES_ONE_IN: u64 = 8;
const BREAKS_ONE_IN: u64 = 200;
/// How long TCP takes to send a packet again, in milliseconds.
const RESENDING_MS: std::ops::Range<u64> = 200..2000;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections break, and new ones are ended at once.
    Cut,
    /// Nothing gets through; what was sent arrives when it is over.
    Silent,
    /// So many bytes in a second, in each direction, for all connections together.
    Slow {
        /// Bytes per second; not 0.
        bytes_per_second: u32,
    },
    /// Pauses, and connections that break.
    Lossy,
}

/// The direction that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the machine to the server.
    Up,
    /// From the server to the machine.
    Down,
}

/// A fault, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub fault: Fault,
    /// It begins as soon as so many bytes went this way.
    pub way: Way,
    /// See `way`.
    pub after_bytes: u64,
    /// And ends after this time.
    pub lasts: Duration,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.fault {
            Fault::Cut => f.write_str("cut"),
            Fault::Silent => f.write_str("silent"),
            Fault::Slow { bytes_per_second } => write!(f, "{bytes_per_second} bytes a second"),
            Fault::Lossy => f.write_str("lossy"),
        }?;
        let way = match self.way {
            Way::Up => "up",
            Way::Down => "down",
        };
        let seconds = self.lasts.as_secs_f64();
        write!(
            f,
            " for {seconds:.1} s after {} bytes {way}",
            self.after_bytes
        )
    }
}

/// What went through since [`Line::begin`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes from the machine to the server.
    pub up: u64,
    /// Bytes from the server to the machine.
    pub down: u64,
    /// Whether the trouble began.
    pub had_trouble: bool,
    /// How many connections the line broke, or ended at once.
    pub broken: u64,
}

struct Now {
    passed: Passed,
    trouble: Option<Trouble>,
    /// When the trouble is over.
    until: Option<Instant>,
    /// When a slow line is free again, by direction.
    is_free_at: [Instant; 2],
    chance: Chance,
}

struct Shared {
    server_port: u16,
    now: Mutex<Now>,
    is_ended: AtomicBool,
}

/// A line. Dropping it ends its connections.
pub struct Line {
    port: u16,
    shared: Arc<Shared>,
}

impl Line {
    /// A line to a server on this computer. It listens on a free port; nothing is wrong with it.
    ///
    /// # Errors
    /// There is no free port.
    pub fn to(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a line")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            server_port,
            now: Mutex::new(Now {
                passed: Passed::default(),
                trouble: None,
                until: None,
                is_free_at: [Instant::now(); 2],
                chance: Chance::new(0),
            }),
            is_ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Ok(Self { port, shared })
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Counts anew, with this trouble to come. `seed` chooses the pauses of a lossy line.
    pub fn begin(&self, trouble: Option<Trouble>, seed: u64) {
        let mut now = self.shared.lock();
        now.passed = Passed::default();
        now.trouble = trouble;
        now.until = None;
        now.chance = Chance::new(seed);
        drop(now);
        self.shared.count(Way::Up, 0);
    }

    /// What went through since then.
    #[must_use]
    pub fn passed(&self) -> Passed {
        self.shared.lock().passed
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
    }
}

/// What becomes of a connection, or of what was just read from it.
enum Fate {
    Passes,
    Waits(Duration),
    Breaks,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.is_ended.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((machine, _)) => {
                    let shared = Arc::clone(&self);
                    std::thread::spawn(move || shared.connect(machine));
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Both directions of a connection, until either end or the line ends it.
    fn connect(self: Arc<Self>, machine: TcpStream) {
        if self.fault() == Some(Fault::Cut) {
            self.lock().passed.broken += 1;
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server_port)) else {
            return;
        };
        let (Ok(machine_too), Ok(server_too)) = (machine.try_clone(), server.try_clone()) else {
            return;
        };
        let up = Arc::clone(&self);
        let upwards = std::thread::spawn(move || up.pump(machine_too, server_too, Way::Up));
        self.pump(server, machine, Way::Down);
        // The other direction ends because both sockets are shut.
        let _ = upwards.join();
    }

    /// Passes on what comes from one end, as the line is at that moment.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut buffer = [0; BUFFER_BYTES];
        let is_set =
            from.set_nonblocking(false).is_ok() && from.set_read_timeout(Some(LOOK_EVERY)).is_ok();
        while is_set && !self.is_ended.load(Ordering::Relaxed) {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.count(way, count as u64);
                    if !self.carry(way, count) || to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if self.fault() == Some(Fault::Cut) {
                        self.lock().passed.broken += 1;
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits as long as the line takes for so many bytes. False if they never arrive.
    fn carry(&self, way: Way, bytes: usize) -> bool {
        let mut has_paused = false;
        loop {
            match self.fate(way, bytes, has_paused) {
                Fate::Passes => return true,
                Fate::Waits(time) => {
                    has_paused = true;
                    std::thread::sleep(time);
                }
                Fate::Breaks => {
                    self.lock().passed.broken += 1;
                    return false;
                }
            }
            if self.is_ended.load(Ordering::Relaxed) {
                return false;
            }
        }
    }

    fn fate(&self, way: Way, bytes: usize, has_paused: bool) -> Fate {
        let Some(fault) = self.fault() else {
            return Fate::Passes;
        };
        let mut now = self.lock();
        match fault {
            Fault::Cut => Fate::Breaks,
            Fault::Silent => Fate::Waits(LOOK_EVERY),
            Fault::Slow { .. } if has_paused => Fate::Passes,
            Fault::Slow { bytes_per_second } => {
                let began = Instant::now();
                let takes = Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second));
                let is_free_at = &mut now.is_free_at[usize::from(way == Way::Down)];
                *is_free_at = (*is_free_at).max(began) + takes;
                Fate::Waits(*is_free_at - began)
            }
            Fault::Lossy if has_paused => Fate::Passes,
            Fault::Lossy if now.chance.below(BREAKS_ONE_IN) == 0 => Fate::Breaks,
            Fault::Lossy if now.chance.below(PAUSES_ONE_IN) == 0 => {
                let span = RESENDING_MS.end - RESENDING_MS.start;
                let milliseconds = RESENDING_MS.start + now.chance.below(span);
                Fate::Waits(Duration::from_millis(milliseconds))
            }
            Fault::Lossy => Fate::Passes,
        }
    }

    /// What is wrong at the moment.
    fn fault(&self) -> Option<Fault> {
        let now = self.lock();
        let is_on = now.until.is_some_and(|until| Instant::now() < until);
        now.trouble.filter(|_| is_on).map(|trouble| trouble.fault)
    }

    /// Counts what came, and begins the trouble if it is time.
    fn count(&self, way: Way, bytes: u64) {
        let mut now = self.lock();
        match way {
            Way::Up => now.passed.up += bytes,
            Way::Down => now.passed.down += bytes,
        }
        let Some(trouble) = now.trouble else { return };
        let passed = match trouble.way {
            Way::Up => now.passed.up,
            Way::Down => now.passed.down,
        };
        if now.until.is_none() && passed >= trouble.after_bytes {
            now.until = Some(Instant::now() + trouble.lasts);
            now.passed.had_trouble = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::{Fault, Line, Trouble, Way};

    /// A server that says everything twice.
    fn line() -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 100];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        let twice = [&buffer[..count], &buffer[..count]].concat();
                        stream.write_all(&twice).unwrap_or_default();
                    }
                });
            }
        });
        Line::to(port).unwrap()
    }

    fn call(line: &Line) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", line.port())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn say(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len() * 2];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    fn trouble(fault: Fault, lasts: Duration) -> Trouble {
        Trouble {
            fault,
            way: Way::Up,
            after_bytes: 10,
            lasts,
        }
    }

    #[test]
    fn a_good_line_passes_everything_on_and_counts() {
        let line = line();
        line.begin(None, 1);
        assert_eq!(say(&mut call(&line), b"moin").unwrap(), b"moinmoin");
        let passed = line.passed();
        assert_eq!((passed.up, passed.down, passed.broken), (4, 8, 0));
        assert!(!passed.had_trouble);
    }

    #[test]
    fn a_cut_line_breaks_what_there_is_and_lets_nobody_in_until_it_is_mended() {
        let line = line();
        line.begin(Some(trouble(Fault::Cut, Duration::from_millis(500))), 1);
        let began = Instant::now();
        let mut stream = call(&line);
        let mut idle = call(&line);
        assert_eq!(say(&mut stream, b"moin").unwrap(), b"moinmoin");
        assert!(say(&mut stream, b"moin moin").is_err());
        assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
        assert!(say(&mut call(&line), b"x").is_err());
        assert!(line.passed().had_trouble && line.passed().broken >= 3);
        while say(&mut call(&line), b"moin").is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(began.elapsed() >= Duration::from_millis(500));
    }

    #[test]
    fn what_is_sent_over_a_silent_or_slow_line_arrives_later() {
        let slow = Fault::Slow {
            bytes_per_second: 20,
        };
        for fault in [Fault::Silent, slow] {
            let line = line();
            line.begin(Some(trouble(fault, Duration::from_millis(400))), 1);
            let began = Instant::now();
            let answer = say(&mut call(&line), b"moin moin moin").unwrap();
            assert_eq!(answer, b"moin moin moinmoin moin moin", "{fault:?}");
            assert!(began.elapsed() >= Duration::from_millis(400), "{fault:?}");
        }
    }

    #[test]
    fn a_lossy_line_breaks_some_connections_and_falsifies_nothing() {
        let line = line();
        line.begin(
            Some(Trouble {
                after_bytes: 0,
                ..trouble(Fault::Lossy, Duration::from_secs(60))
            }),
            3,
        );
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = call(&line);
                std::thread::spawn(move || {
                    (0..4)
                        .map(|_| say(&mut stream, b"moin").ok())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let answers: Vec<_> = calls
            .into_iter()
            .flat_map(|call| call.join().unwrap())
            .collect();
        let right = answers
            .iter()
            .flatten()
            .filter(|answer| *answer == b"moinmoin");
        assert_eq!(right.count(), answers.iter().flatten().count());
        assert!(answers.iter().any(Option::is_none) && line.passed().broken > 0);
    }
}
