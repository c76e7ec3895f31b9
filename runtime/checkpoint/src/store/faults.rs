//! Where tests reach in: every durable effect passes here, numbered, before and after.

use std::fmt::Debug;

use thalweg_stream::clock::Sleep;

use crate::name::ObjectName;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// It is written, whether it was there or not.
    Put,
    /// It is created, unless it is there.
    PutIfAbsent,
    /// It is deleted.
    Delete,
}

/// One durable effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its number on this handle of the store, from 1.
    pub number: u64,
    /// What is done…
    pub kind: EffectKind,
    /// …to which object.
    pub name: ObjectName,
}

/// A moment in the life of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing has been done.
    Before,
    /// A directory store has the content on disk under a temporary name.
    Synced,
    /// A directory store has given it its name; the folder is not on disk yet.
    Visible,
    /// It is done and durable; the caller does not know yet.
    After,
}

/// What becomes of an effect at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Proceed,
    /// The caller is told that it failed. After [`Moment::After`] this is a lost reply.
    Fail,
    /// The handle ends as if its process had died: this and every later request fails.
    End,
    /// The first half of the content is written under the object's name, and the handle ends: what
    /// is left of a write that no store promises to be whole. Only [before](Moment::Before) one.
    Tear,
}

/// Decides what becomes of durable effects.
///
/// Production uses [`NoFaults`]. An implementation may also end the whole process: effects are
/// never under way on the thread that drives the dataflow.
pub trait Faults: Send + Sync + Debug {
    /// What becomes of `effect` at `moment`.
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict;

    /// What becomes of a request that reads the object `name`, or lists what begins so.
    fn read(&self, _name: &str) -> Verdict {
        Verdict::Proceed
    }

    /// Waited for on the way to the store and back, by every request: makes it slow.
    fn passage(&self, _name: &str) -> Sleep {
        Box::pin(std::future::ready(()))
    }
}

/// Everything goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&self, _effect: &Effect, _moment: Moment) -> Verdict {
        Verdict::Proceed
    }
}
