//! Planted faults: bugs built in on purpose, to see whether the tests would find them.
//!
//! They exist where `debug_assertions` are on, as the failpoints of the engine do: the tests of
//! `make test` then have them without a build of their own, and one of them is at work if the
//! environment variable `THALWEG_PLANTED` names it. A release build has none: [`planted`] is there
//! a constant `false`, and what depends on it is not compiled. `make faults` shows for each which
//! test finds it, and how fast.

/// Every fault, and what it does wrong.
pub const ALL: &[(&str, &str)] = &[
    ("skip-fsync", "objects of a store are not synced"),
    (
        "publish-before-commit",
        "output becomes visible before the commit that lists it",
    ),
    (
        "list-this-epoch-only",
        "a manifest lists the output staged for its own epoch alone",
    ),
    (
        "drop-failed-deltas",
        "state frozen for a failed checkpoint is not given to the next one",
    ),
    (
        "drop-fencing-check",
        "an entry of the job log is acted on though others are beyond it",
    ),
    (
        "new-nonce-on-retry",
        "a commit of unknown fate is proposed again as another one",
    ),
    (
        "truncate-without-fence",
        "numbers below a snapshot of the job log become free",
    ),
    (
        "apply-early",
        "batches of a later epoch are applied at once",
    ),
    ("forget-watermarks", "watermarks are not restored"),
    (
        "forget-dedup-slice",
        "the first delta of a slice of fingerprints is not written",
    ),
    ("forget-table", "the table of an enrichment is not frozen"),
    (
        "forget-held-rows",
        "rows that wait for a table are not frozen",
    ),
    (
        "acknowledge-before-staged",
        "a checkpoint is committed while its output is still on its way",
    ),
    (
        "map-order",
        "results of a window leave in the order of a hash map",
    ),
    ("collide-prints", "fingerprints have twelve bits"),
    (
        "restore-wrong-groups",
        "a worker restores the key groups of its neighbour",
    ),
    (
        "reuse-epochs",
        "epochs go on from the checkpoint, not from the last commit",
    ),
    (
        "delete-in-use",
        "retention deletes what a kept checkpoint reaches",
    ),
    (
        "skip-recovery-publish",
        "output that the checkpoint lists is not published after a restart",
    ),
    ("idle-is-the-end", "an idle split counts as finished"),
    ("watermark-goes-back", "watermarks may go back"),
    (
        "keep-lineage",
        "a start from an older checkpoint continues the lineage",
    ),
    (
        "ignore-checksum",
        "state is used without its checksum being looked at",
    ),
    ("blind-replace", "a document is written whatever there is"),
    (
        "ignore-generation",
        "the generation of a document's stamp is not compared",
    ),
    (
        "new-id-on-retry",
        "each attempt to ingest a blob has a tag of its own",
    ),
    ("plain-sums", "sums of floats have no compensation"),
    (
        "publish-unordered",
        "units of an ordered sink are published several at a time",
    ),
    (
        "forget-rejects",
        "a unit is settled before its rejected rows are staged",
    ),
];

#[cfg(debug_assertions)]
#[allow(
    clippy::disallowed_methods,
    reason = "which fault is at work is for the whole process"
)]
/// Whether this fault is at work.
#[must_use]
pub fn planted(name: &str) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("THALWEG_PLANTED").ok());
    // Asked once a row by some: in all other runs that is one comparison.
    matches!(chosen, Some(chosen) if chosen == name)
}

/// Whether this fault is at work: never, in this build.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[must_use]
pub const fn planted(_name: &str) -> bool {
    false
}
