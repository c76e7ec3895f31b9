//! The way to the store of one process: slow, lossy, and at times the last it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg_checkpoint::Faults;
use thalweg_checkpoint::name::{COMPACTION, ObjectKind, ObjectName};
use thalweg_checkpoint::store::{Effect, EffectKind, Moment, Verdict};
use thalweg_stream::Clock;
use thalweg_stream::clock::Sleep;

use crate::world::{Kind, SimClock, World, lock};

/// What becomes of the requests of one process.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<SimClock>,
    /// The process is to die.
    pub(crate) doomed: Arc<AtomicBool>,
    /// The effect under way is to go wrong afterwards: its number and how.
    pub(crate) struck: std::sync::Mutex<Vec<(u64, Kind)>>,
}

impl Passage {
    fn doom(&self, verdict: Verdict) -> Verdict {
        self.doomed.store(true, Ordering::Relaxed);
        verdict
    }

    fn before(&self, effect: &Effect) -> Verdict {
        let name = effect.name.as_str();
        let folder = match is_compacted(&effect.name) {
            true => "compacted",
            false => name.split('/').next().unwrap_or(name),
        };
        let kind = match effect.kind {
            EffectKind::Put => "put",
            EffectKind::PutIfAbsent => "create",
            EffectKind::Delete => "delete",
        };
        self.world.trace(|| format!("{kind} {name}"));
        match self.world.effect(format!("{kind} {folder}")) {
            None => {}
            Some(Kind::Before) => return self.doom(Verdict::End),
            Some(Kind::Error) => return Verdict::Fail,
            // What is created only if absent appears whole or not at all: that is what the log
            // asks of a store. What is left of it is under a temporary name, as if nothing were.
            Some(Kind::Torn) if effect.kind != EffectKind::Put => return self.doom(Verdict::End),
            Some(Kind::Torn) => return self.doom(Verdict::Tear),
            Some(kind) => lock(&self.struck).push((effect.number, kind)),
        }
        let weather = self.world.weather();
        if self.world.chance(weather.dies_at_effect) {
            self.world.sometimes("died before an effect");
            return self.doom(Verdict::End);
        }
        if effect.kind == EffectKind::Put && self.world.chance(weather.dies_at_effect) {
            self.world.sometimes("died in the middle of a write");
            return self.doom(Verdict::Tear);
        }
        if self.world.chance(weather.write_fails) {
            self.world.sometimes("a write to the store failed");
            return Verdict::Fail;
        }
        Verdict::Proceed
    }

    fn after(&self, effect: &Effect) -> Verdict {
        if effect.name.as_str().starts_with("log/") {
            lock(&self.world.outside).log_grew = true;
            match effect.kind {
                EffectKind::Put => self.world.sometimes("the log was folded"),
                EffectKind::Delete => self.world.sometimes("entries of the log were deleted"),
                EffectKind::PutIfAbsent => {}
            }
        }
        let mut struck = lock(&self.struck);
        let at = struck
            .iter()
            .position(|(number, _)| *number == effect.number);
        match at.map(|at| struck.remove(at).1) {
            Some(Kind::After) => return self.doom(Verdict::End),
            Some(Kind::Lost) => return Verdict::Fail,
            Some(Kind::Before | Kind::Error | Kind::Torn) | None => {}
        }
        let weather = self.world.weather();
        if self.world.chance(weather.dies_at_effect) {
            self.world.sometimes("died after an effect");
            return self.doom(Verdict::End);
        }
        if self.world.chance(weather.reply_lost) {
            let log = effect.name.as_str().starts_with("log/");
            self.world.sometimes(match log {
                true => "the reply to an entry of the log was lost",
                false => "a reply of the store was lost",
            });
            return Verdict::Fail;
        }
        Verdict::Proceed
    }
}

/// Whether an object is a part that a compaction writes.
fn is_compacted(name: &ObjectName) -> bool {
    matches!(name.kind(), Some(ObjectKind::Part(part)) if part.worker == COMPACTION)
}

impl Faults for Passage {
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
        match moment {
            Moment::Before => self.before(effect),
            Moment::After => self.after(effect),
            Moment::Synced | Moment::Visible => Verdict::Proceed,
        }
    }

    fn read(&self, _name: &str) -> Verdict {
        if self.world.chance(self.world.weather().read_fails) {
            self.world.sometimes("a read from the store failed");
            return Verdict::Fail;
        }
        Verdict::Proceed
    }

    fn passage(&self, _name: &str) -> Sleep {
        if self.world.chance(self.world.weather().slow) {
            self.world.sometimes("the store was slow");
            let ms = self.world.below(60);
            return self.clock.sleep(Duration::from_millis(ms));
        }
        Box::pin(std::future::ready(()))
    }
}
