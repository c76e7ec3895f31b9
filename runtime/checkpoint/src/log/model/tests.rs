//! How much of the model is tried, and planted faults that it must find.

use stateright::{Checker, Model};

use super::Rules;
use super::property::{
    ALLOWED, EPOCHS_INCREASE, NO_FENCED_COMMIT, ONE_LINE, ONE_PER_NUMBER, ONLY_FENCED,
};

const RULES: Rules = Rules {
    contenders: 3,
    commits: 1,
    snapshots: 1,
    losses: 1,
    crashes: 0,
    blind: false,
    stranger: false,
    choices: 0,
    keep: 1,
    fences: false,
    keep_lineage: false,
    same_lineage: false,
};

fn check(rules: Rules) -> impl Checker<Rules> {
    rules.checker().threads(2).spawn_bfs().join()
}

/// Visits every state and checks every property.
fn holds(rules: Rules) {
    let checker = check(rules);
    println!("{rules:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn three_contenders_keep_one_history_though_replies_are_lost() {
    holds(Rules {
        snapshots: 0,
        ..RULES
    });
}

#[test]
fn three_contenders_keep_one_history_though_numbers_are_deleted() {
    holds(Rules { losses: 0, ..RULES });
}

/// One that dies and comes back is a third, whose requests may still arrive.
#[test]
fn contenders_that_die_keep_one_history_though_anything_else_happens_too() {
    holds(Rules {
        contenders: 2,
        crashes: 1,
        ..RULES
    });
}

#[test]
fn owners_that_commit_twice_keep_one_history() {
    holds(Rules {
        contenders: 2,
        commits: 2,
        ..RULES
    });
}

/// One owner commits twice, so that there is an older checkpoint; whoever comes then chooses.
#[test]
fn contenders_that_choose_where_to_start_keep_one_history_and_lineages_apart() {
    holds(CHOOSING);
}

#[test]
fn contenders_keep_one_history_while_fences_come_and_go() {
    holds(Rules {
        contenders: 2,
        losses: 1,
        fences: true,
        ..RULES
    });
}

#[test]
fn a_lineage_that_forks_is_caught() {
    let keep = Rules {
        keep_lineage: true,
        ..CHOOSING
    };
    assert_eq!(broken(keep), [ONE_LINE]);
    let same = Rules {
        same_lineage: true,
        ..CHOOSING
    };
    assert_eq!(broken(same), [ONE_LINE]);
}

const CHOOSING: Rules = Rules {
    contenders: 2,
    commits: 2,
    choices: 1,
    keep: 2,
    ..RULES
};

/// Everything at once: 2.6 million states, a minute and 1 GB.
#[test]
#[ignore = "takes a minute, and the tests above have it in parts: make soak"]
fn three_contenders_keep_one_history_whatever_happens() {
    holds(RULES);
}

/// What a planted fault breaks, of two contenders.
fn broken(rules: Rules) -> Vec<&'static str> {
    let checker = check(Rules {
        contenders: 2,
        ..rules
    });
    let found = checker.discoveries().into_keys();
    let mut broken: Vec<_> = found
        .filter(|name| {
            [
                ALLOWED,
                ONE_PER_NUMBER,
                NO_FENCED_COMMIT,
                EPOCHS_INCREASE,
                ONLY_FENCED,
                ONE_LINE,
            ]
            .contains(name)
        })
        .collect();
    broken.sort_unstable();
    broken
}

#[test]
fn an_owner_that_does_not_look_beyond_its_entry_is_caught() {
    let blind = Rules {
        blind: true,
        ..RULES
    };
    assert_eq!(broken(RULES), [""; 0]);
    let broken = broken(blind);
    for name in [ONE_PER_NUMBER, NO_FENCED_COMMIT] {
        assert!(broken.contains(&name), "{broken:?}");
    }
}

#[test]
fn an_owner_that_does_not_know_its_own_entry_is_caught() {
    let stranger = Rules {
        stranger: true,
        ..RULES
    };
    let broken = broken(stranger);
    assert!(broken.contains(&ONLY_FENCED), "{broken:?}");
}
