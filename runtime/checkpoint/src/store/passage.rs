//! The way of every request through the injected faults.

use std::sync::atomic::Ordering;

use super::{Effect, EffectKind, Moment, Store, Verdict};
use crate::error::Error;
use crate::name::ObjectName;

impl Store {
    /// On the way to the store.
    pub(super) async fn request(&self, name: &ObjectName) -> Result<(), Error> {
        self.check(name)?;
        self.faults.passage(name.as_str()).await;
        self.check(name)
    }

    /// The same for a request that reads.
    pub(super) async fn ask(&self, name: &ObjectName) -> Result<(), Error> {
        self.request(name).await?;
        self.settle("get", name, "read", self.faults.read(name.as_str()))
    }

    pub(super) fn check(&self, name: &ObjectName) -> Result<(), Error> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::Ended {
                name: name.to_string(),
            });
        }
        Ok(())
    }

    pub(super) fn judge(&self, effect: &Effect, moment: Moment) -> Result<(), Error> {
        self.check(&effect.name)?;
        self.obey(effect, moment, self.faults.at(effect, moment))
    }

    pub(super) fn obey(
        &self,
        effect: &Effect,
        moment: Moment,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let action = match effect.kind {
            EffectKind::Put | EffectKind::PutIfAbsent => "put",
            EffectKind::Delete => "delete",
        };
        self.settle(action, &effect.name, &format!("{moment:?}"), verdict)
    }

    /// Does to a request what was decided about it.
    fn settle(
        &self,
        action: &'static str,
        name: &ObjectName,
        when: &str,
        verdict: Verdict,
    ) -> Result<(), Error> {
        match verdict {
            Verdict::Proceed => Ok(()),
            Verdict::Fail => Err(Error::Storage {
                action,
                name: name.to_string(),
                problem: format!("injected failure ({when})"),
                passing: true,
            }),
            Verdict::End | Verdict::Tear => {
                self.ended.store(true, Ordering::Release);
                self.check(name)
            }
        }
    }
}
