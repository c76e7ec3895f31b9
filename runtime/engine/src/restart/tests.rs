//! Rows of failures, and what follows from each.

use super::*;
use crate::failure::Cause;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: RestartPolicy = RestartPolicy {
    attempts: 4,
    delay: SECOND,
    delay_max: Duration::from_secs(5),
    reset_after: Duration::from_secs(60),
};

fn failed(fault: Fault, place: Option<(u64, u64)>) -> Failed {
    let place = place.map(|(from, to)| Place {
        source: "reports".into(),
        split: "part 0".into(),
        number: 0,
        from,
        to,
    });
    Failed {
        failure: Failure {
            fault,
            cause: Cause::Fault,
            place,
        },
        ran: Some(SECOND),
        committed: false,
        stopping: false,
    }
}

fn seconds(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::Again { after, .. } => Some(after.as_secs()),
        Verdict::End(_) => None,
    }
}

#[test]
fn delays_double_up_to_a_most_and_end_after_so_many() {
    let mut restarts = Restarts::new(POLICY);
    let mut next = || seconds(&restarts.on_failure(failed(Fault::bug("a panic"), None)));
    let delays = [next(), next(), next(), next(), next()];
    assert_eq!(delays, [Some(1), Some(2), Some(4), Some(5), None]);
}

#[test]
fn an_attempt_that_went_well_for_long_begins_a_new_row() {
    let mut restarts = Restarts::new(POLICY);
    let passing = || failed(Fault::transient("gone for a while"), None);
    restarts.on_failure(passing());
    restarts.on_failure(passing());
    let well = Failed {
        ran: Some(POLICY.reset_after),
        committed: true,
        ..passing()
    };
    assert_eq!(seconds(&restarts.on_failure(well)), Some(1));
    let stuck = Failed {
        ran: Some(POLICY.reset_after),
        ..passing()
    };
    assert_eq!(seconds(&restarts.on_failure(stuck)), Some(2));
}

#[test]
fn a_peer_that_says_when_to_come_back_is_heeded() {
    let mut restarts = Restarts::new(POLICY);
    let after = Some(Duration::from_secs(7));
    let fault = Fault::new(Class::Transient { after }, "busy");
    assert_eq!(seconds(&restarts.on_failure(failed(fault, None))), Some(7));
}

#[test]
fn what_another_attempt_would_meet_again_ends_the_run() {
    for fault in [
        Fault::user("a typo"),
        Fault::fenced("a successor"),
        Fault::corrupt("a flipped bit"),
    ] {
        let verdict = Restarts::new(POLICY).on_failure(failed(fault.clone(), None));
        assert_eq!(verdict, Verdict::End(fault));
    }
    let gone = || failed(Fault::unavailable("no such topic"), None);
    assert_eq!(seconds(&Restarts::new(POLICY).on_failure(gone())), Some(1));
    let at_start = Failed {
        ran: None,
        ..gone()
    };
    assert_eq!(seconds(&Restarts::new(POLICY).on_failure(at_start)), None);
    let stopping = Failed {
        stopping: true,
        ..failed(Fault::bug("a panic"), None)
    };
    assert_eq!(seconds(&Restarts::new(POLICY).on_failure(stopping)), None);
    let never = &mut Restarts::new(RestartPolicy::NEVER);
    let verdict = never.on_failure(failed(Fault::bug("a panic"), None));
    assert_eq!(verdict, Verdict::End(Fault::bug("a panic")));
}

#[test]
fn a_service_that_does_not_answer_ends_a_run_that_begins_and_is_waited_for_later() {
    let away = || Failed {
        ran: None,
        ..failed(
            Fault::new(Class::Unreachable, "no broker has answered"),
            None,
        )
    };
    let mut restarts = Restarts::new(POLICY);
    assert_eq!(seconds(&restarts.on_failure(away())), None);
    let lost = failed(Fault::transient("process 1 is lost"), None);
    assert_eq!(seconds(&restarts.on_failure(lost)), Some(1));
    let mut next = || seconds(&restarts.on_failure(away()));
    assert_eq!(
        [next(), next(), next(), next()],
        [Some(2), Some(4), Some(5), None]
    );
}

#[test]
fn what_is_not_usable_three_times_in_a_row_ends_the_run() {
    let gone = || failed(Fault::unavailable("standard output: broken pipe"), None);
    let mut restarts = Restarts::new(POLICY);
    let mut next = |failed| seconds(&restarts.on_failure(failed));
    assert_eq!(
        [next(gone()), next(gone()), next(gone())],
        [Some(1), Some(2), None]
    );
    let mut restarts = Restarts::new(POLICY);
    let mut next = |failed| seconds(&restarts.on_failure(failed));
    assert_eq!([next(gone()), next(gone())], [Some(1), Some(2)]);
    let well = Failed {
        ran: Some(POLICY.reset_after),
        committed: true,
        ..gone()
    };
    assert_eq!(
        [next(well), next(gone()), next(gone())],
        [Some(1), Some(2), None]
    );
}

#[test]
fn a_record_that_fails_each_time_is_named() {
    let mut restarts = Restarts::new(POLICY);
    let mut next = |from, to| {
        restarts.on_failure(failed(
            Fault::bug("step \"x\" has panicked"),
            Some((from, to)),
        ))
    };
    let Verdict::Again { suspect, .. } = next(100, 900) else {
        panic!("again")
    };
    assert_eq!(
        suspect.map(|place| (place.from, place.to)),
        Some((100, 900))
    );
    assert_eq!(seconds(&next(312, 312)), Some(2));
    let Verdict::End(fault) = next(312, 312) else {
        panic!("the third time on one record")
    };
    assert_eq!(
        fault.message,
        "step \"x\" has panicked: it has failed 3 times in a row on source \"reports\", split \"part 0\", offset 312"
    );
}

#[test]
fn records_that_fail_now_here_and_now_there_are_not_blamed() {
    let mut restarts = Restarts::new(POLICY);
    for offset in [1, 2, 1, 2] {
        let verdict = restarts.on_failure(failed(Fault::bug("at random"), Some((offset, offset))));
        assert!(matches!(verdict, Verdict::Again { .. }));
    }
}
