//! Steps that take their own output: refused, each with what it takes it through.
//!
//! Steps are numbers here: where much takes much of one another, all of it is gone through for each.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::model::Step;

/// Most that are told.
const TOLD_MAX: usize = 50;

pub(super) fn refuse(steps: &[Step], found: &mut Vec<Diagnostic>) {
    let numbers: BTreeMap<&str, usize> = (steps.iter())
        .map(|step| step.name.value.as_str())
        .zip(0..)
        .collect();
    let inputs = |step: &Step| -> Vec<usize> {
        let names = (step.from.iter()).filter_map(|from| from.value.split('.').next());
        names
            .filter_map(|name| numbers.get(name).copied())
            .collect()
    };
    let inputs: Vec<Vec<usize>> = steps.iter().map(inputs).collect();
    let doubtful = doubtful(&inputs);
    let through = (steps.iter().enumerate())
        .filter(|(at, _)| doubtful.get(*at) == Some(&true))
        .filter_map(|(at, step)| Some((step, through(at, &inputs, &doubtful)?)));
    for (step, through) in through.take(TOLD_MAX) {
        let names: Vec<&str> = (through.into_iter())
            .filter_map(|number| Some(steps.get(number)?.name.value.as_str()))
            .collect();
        let message = format!(
            "step `{}` takes its own output, through {}",
            step.name.value,
            match names.is_empty() {
                true => "nothing else".to_owned(),
                false => names.join(", "),
            }
        );
        found.push(Diagnostic::error(step.name.span, message));
    }
}

/// Whether each step may be in a cycle: one that takes only what is in none is in none.
fn doubtful(inputs: &[Vec<usize>]) -> Vec<bool> {
    let mut doubtful = vec![true; inputs.len()];
    loop {
        let clear = (inputs.iter().enumerate()).filter(|(at, from)| {
            doubtful.get(*at) == Some(&true)
                && from.iter().all(|from| doubtful.get(*from) == Some(&false))
        });
        let clear: Vec<usize> = clear.map(|(at, _)| at).collect();
        if clear.is_empty() {
            return doubtful;
        }
        for at in clear {
            doubtful[at] = false;
        }
    }
}

/// What step `at` takes its own output through, if it does.
fn through(at: usize, inputs: &[Vec<usize>], doubtful: &[bool]) -> Option<Vec<usize>> {
    let of = |at: usize| {
        let from = inputs.get(at).into_iter().flatten().copied();
        from.filter(|from| doubtful.get(*from) == Some(&true))
    };
    let (mut seen, mut through) = (vec![false; inputs.len()], Vec::new());
    let mut open: Vec<usize> = of(at).collect();
    while let Some(next) = open.pop() {
        if next == at {
            return Some(through);
        }
        if let Some(seen) = seen.get_mut(next).filter(|seen| !**seen) {
            *seen = true;
            through.push(next);
            open.extend(of(next));
        }
    }
    None
}
