//! Which file is next, and how a chunk is cut.

use bytes::Bytes;

use super::cut;
use crate::queue::{Seen, furthest_behind};

#[test]
fn the_next_file_is_the_one_furthest_behind() {
    let seen = |newest, unobserved| Seen { newest, unobserved };
    for (all, expected) in [
        // Nothing known: they take turns.
        (vec![Seen::NOTHING, Seen::NOTHING], Some(0)),
        (vec![seen(i64::MIN, 1), Seen::NOTHING], Some(1)),
        (vec![seen(i64::MIN, 2), seen(i64::MIN, 1)], Some(1)),
        // What is unknown comes before what is known.
        (vec![seen(5, 0), seen(i64::MIN, 9)], Some(1)),
        // The least event time, however much of it is under way.
        (vec![seen(5, 0), seen(4, 60), seen(6, 0)], Some(1)),
        (vec![seen(4, 3), seen(4, 0)], Some(0)),
        (vec![], None),
    ] {
        assert_eq!(furthest_behind(&all, 0..all.len()), expected, "{all:?}");
    }
    let all = [seen(1, 0), seen(9, 0), seen(5, 0)];
    assert_eq!(furthest_behind(&all, [1, 2].into_iter()), Some(2));
}

#[test]
fn chunks_are_cut_behind_lines() {
    for (content, bytes_max, first) in [
        ("aa\nbb\ncc\n", 100, 9),
        ("aa\nbb\ncc\n", 9, 9),
        ("aa\nbb\ncc\n", 8, 6),
        ("aa\nbb\ncc\n", 3, 3),
        ("aa\nbb\ncc\n", 2, 3),
        ("aa\nbb\ncc\n", 0, 3),
        ("aa\nbb", 4, 3),
        ("aabb", 2, 4),
    ] {
        let (now, rest) = cut(Bytes::from_static(content.as_bytes()), bytes_max, None, 0);
        assert_eq!(
            (now.len(), rest.len()),
            (first, content.len() - first),
            "{content:?}"
        );
    }
}
