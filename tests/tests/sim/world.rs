//! What all processes of a simulation share: chance, time, the weather, and the record of what
//! happened. Only one thread runs at a time, so that the locks here are never contended.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thalweg_stream::Clock;
use thalweg_stream::clock::Sleep;

use crate::outside::Outside;

/// Wall-clock time at the beginning, milliseconds.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;

/// Locks even if a thread has panicked with the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sequence of numbers that looks random: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Scrambles a number.
pub(crate) fn mix(number: u64) -> u64 {
    let mut bits = number;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Which faults there are and how often, in a thousand: drawn once from the seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// A write to the store fails.
    pub(crate) write_fails: u64,
    /// It is done, and the caller is told that it failed.
    pub(crate) reply_lost: u64,
    /// A read fails.
    pub(crate) read_fails: u64,
    /// A request takes up to 60 ms.
    pub(crate) slow: u64,
    /// The process dies at an effect.
    pub(crate) dies_at_effect: u64,
    /// Publishing fails, or its reply is lost.
    pub(crate) publish_fails: u64,
    /// Publishing takes up to a tenth of `publish_slow_us`…
    pub(crate) publish_slow: u64,
    /// …and so much of what is slow takes half of it or more.
    pub(crate) publish_late: u64,
    /// As long as a successor takes to start and to commit, microseconds.
    pub(crate) publish_slow_us: u64,
    /// A process dies between two turns.
    pub(crate) crash: u64,
    /// A process is frozen, and may find a successor when it wakes.
    pub(crate) freeze: u64,
    /// One worker has no turns for a while, and the others have.
    pub(crate) left_out: u64,
    /// Somebody asks for a stop.
    pub(crate) stop: u64,
    /// Somebody asks for a savepoint.
    pub(crate) savepoint: u64,
    /// The wall clock jumps.
    pub(crate) clock_jumps: u64,
}

impl Weather {
    /// A swarm: each fault is there or not, and often or rare.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut fault = |often: u64| match random.below(4) {
            0 | 1 => 0,
            2 => often,
            _ => often.div_ceil(4),
        };
        Self {
            write_fails: fault(120),
            reply_lost: fault(80),
            read_fails: fault(30),
            slow: fault(300),
            dies_at_effect: fault(16),
            publish_fails: fault(250),
            publish_slow: fault(800),
            publish_late: 0,
            publish_slow_us: 0,
            crash: fault(6),
            freeze: fault(6),
            left_out: 0,
            stop: fault(2),
            savepoint: fault(4),
            clock_jumps: fault(20),
        }
    }
}

impl Weather {
    /// Each fault, by name.
    pub(crate) fn faults(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("write_fails", &mut self.write_fails),
            ("reply_lost", &mut self.reply_lost),
            ("read_fails", &mut self.read_fails),
            ("slow", &mut self.slow),
            ("dies_at_effect", &mut self.dies_at_effect),
            ("publish_fails", &mut self.publish_fails),
            ("publish_slow", &mut self.publish_slow),
            ("crash", &mut self.crash),
            ("freeze", &mut self.freeze),
            ("left_out", &mut self.left_out),
            ("stop", &mut self.stop),
            ("savepoint", &mut self.savepoint),
            ("clock_jumps", &mut self.clock_jumps),
        ]
    }
}

/// One effect that is to go wrong, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Strike {
    pub(crate) effect: u64,
    pub(crate) kind: Kind,
}

/// How an effect goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The process dies before it.
    Before,
    /// The process dies after it.
    After,
    /// It is not done, and the caller is told so.
    Error,
    /// It is done, and the caller is told that it was not.
    Lost,
    /// Half of the content is written, and the process dies.
    Torn,
}

/// All there is but the processes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Mutex<Random>,
    pub(crate) weather: Mutex<Weather>,
    pub(crate) outside: Mutex<Outside>,
    time: Mutex<Time>,
    trace: Mutex<Trace>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
    effects: Mutex<Effects>,
}

#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    told: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Effects {
    names: Vec<String>,
    strikes: Vec<Strike>,
}

impl World {
    pub(crate) fn new(seed: u64, strikes: Vec<Strike>) -> Arc<Self> {
        let told = std::env::var_os("THALWEG_TRACE").map(|_| Vec::new());
        Arc::new(Self {
            random: Mutex::new(Random::new(seed)),
            weather: Mutex::default(),
            outside: Mutex::default(),
            time: Mutex::default(),
            trace: Mutex::new(Trace { hash: seed, told }),
            seen: Mutex::default(),
            effects: Mutex::new(Effects {
                names: Vec::new(),
                strikes,
            }),
        })
    }

    pub(crate) fn weather(&self) -> Weather {
        *lock(&self.weather)
    }

    pub(crate) fn chance(&self, permille: u64) -> bool {
        permille > 0 && lock(&self.random).chance(permille)
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        lock(&self.random).below(end)
    }

    /// Takes note of a decision or an effect.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        let what = what();
        let mut trace = lock(&self.trace);
        for byte in what.bytes() {
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if let Some(told) = &mut trace.told {
            told.push(what);
        }
    }

    /// The hash of all that was noted, and all of it if it was asked for.
    pub(crate) fn traced(&self) -> (u64, Vec<String>) {
        let mut trace = lock(&self.trace);
        (trace.hash, trace.told.take().unwrap_or_default())
    }

    /// Something that must happen sometimes has happened.
    pub(crate) fn sometimes(&self, what: &'static str) {
        *lock(&self.seen).entry(what).or_default() += 1;
    }

    pub(crate) fn seen(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.seen).clone()
    }

    /// Numbers an effect; how it is to go wrong, if it is.
    pub(crate) fn effect(&self, name: String) -> Option<Kind> {
        let mut effects = lock(&self.effects);
        effects.names.push(name);
        let number = effects.names.len() as u64;
        let strike = effects.strikes.iter().find(|s| s.effect == number);
        strike.map(|strike| strike.kind)
    }

    /// The effects so far, by name.
    pub(crate) fn effects(&self) -> Vec<String> {
        lock(&self.effects).names.clone()
    }

    /// How much time has passed.
    pub(crate) fn now(&self) -> Duration {
        lock(&self.time).now
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        let due = {
            let mut time = lock(&self.time);
            time.now += duration;
            let now = time.now;
            let later = time.waiting.split_off(&(now, u64::MAX));
            std::mem::replace(&mut time.waiting, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// How long until somebody has waited long enough.
    pub(crate) fn until_next(&self) -> Option<Duration> {
        let time = lock(&self.time);
        let (next, _) = time.waiting.keys().next()?;
        Some(next.saturating_sub(time.now))
    }
}

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    /// By deadline and number.
    waiting: BTreeMap<(Duration, u64), Waker>,
    numbers: u64,
}

/// The clock of one process: all share the monotonic time; its wall clock may jump.
#[derive(Debug)]
pub(crate) struct SimClock {
    world: Arc<World>,
    skew_ms: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            skew_ms: AtomicI64::new(0),
        }
    }

    /// Jumps by up to an hour either way.
    pub(crate) fn jump(&self) {
        let by = self.world.below(7_200_000).cast_signed() - 3_600_000;
        self.skew_ms.store(by, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let since = self.world.now().as_millis();
        BEGIN_MS + i64::try_from(since).unwrap_or(0) + self.skew_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        self.world.now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(Waiting {
            world: Arc::clone(&self.world),
            until: self.world.now() + duration,
            number: None,
        })
    }
}

struct Waiting {
    world: Arc<World>,
    until: Duration,
    number: Option<u64>,
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = Arc::clone(&self.world);
        let mut time = lock(&world.time);
        if time.now >= self.until {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            time.numbers += 1;
            time.numbers
        });
        let waker = context.waker().clone();
        time.waiting.insert((self.until, number), waker);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let removed = lock(&self.world.time).waiting.remove(&(self.until, number));
            drop(removed);
        }
    }
}
