//! The reader against a kubelet made of a list of stamped lines, cut wherever it hurts.

use proptest::prelude::*;

use super::*;

/// A log file of the kubelet: (nanoseconds after the epoch of the test, bytes of the line).
type File = Vec<(i64, Vec<u8>)>;

const EPOCH: i64 = 1_800_000_000;

fn stamp(nanos: i64) -> Timestamp {
    Timestamp::new(
        EPOCH + nanos.div_euclid(1_000_000_000),
        nanos.rem_euclid(1_000_000_000) as i32,
    )
    .unwrap()
}

/// What the kubelet serves for `sinceTime`.
fn serve(file: &File, since: Option<&str>) -> Vec<u8> {
    let since: Option<Timestamp> = since.map(|since| since.parse().unwrap());
    let mut out = Vec::new();
    for (at, line) in file {
        let at = stamp(*at);
        if since.is_none_or(|since| at >= since) {
            out.extend_from_slice(format!("{at:.9} ").as_bytes());
            out.extend_from_slice(line);
        }
    }
    out
}

fn whole(file: &File) -> Vec<u8> {
    file.iter().flat_map(|(_, line)| line.clone()).collect()
}

#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    gaps: Vec<String>,
    position: LogPosition,
    starts: Vec<(u64, Timestamp)>,
}

impl Got {
    fn take(&mut self, items: Vec<LogItem>) {
        for item in items {
            match item {
                LogItem::Chunk(chunk) => {
                    let base = self.bytes.len() as u64;
                    let starts = chunk
                        .lines
                        .iter()
                        .map(|line| (base + line.at_byte as u64, line.time));
                    self.starts.extend(starts);
                    self.bytes.extend_from_slice(&chunk.bytes);
                    self.position = chunk.position;
                    assert_eq!(self.position.offset, self.bytes.len() as u64);
                }
                LogItem::Gap { message } => self.gaps.push(message),
                LogItem::End => panic!("the reader knows no end"),
            }
        }
    }
}

/// Reads in passes, each cut after so many served bytes, then one whole pass.
fn read(file: &File, cuts: &[usize], step: usize) -> Got {
    let mut got = Got::default();
    for cut in cuts.iter().map(Some).chain([None]) {
        let mut reader = Reader::new(&got.position);
        let since = reader.mark().map(Mark::since);
        let served = serve(file, since.as_deref());
        let end = cut.map_or(served.len(), |cut| (*cut).min(served.len()));
        for piece in served[..end].chunks(step.max(1)) {
            got.take(reader.feed(piece));
        }
        got.take(reader.finish(cut.is_none()));
    }
    got
}

fn lines(all: &[(i64, &str)]) -> File {
    all.iter()
        .map(|(at, line)| (*at, line.as_bytes().to_vec()))
        .collect()
}

#[test]
fn strips_stamps_at_line_starts_only() {
    let file = lines(&[
        (1, "a b\n"),
        (2, "2026-01-01T00:00:00.0Z not a stamp\n"),
        (3, "\n"),
        (4, "no newline"),
    ]);
    let got = read(&file, &[], 3);
    assert_eq!(got.bytes, whole(&file));
    assert_eq!(got.gaps, Vec::<String>::new());
    let starts: Vec<u64> = got.starts.iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [0, 4, 39, 40]);
}

#[test]
fn d09_any_byte_is_safe() {
    let every: Vec<u8> = (0..=255u8).filter(|byte| *byte != b'\n').chain([b'\n']).collect();
    let file = vec![(1, every.clone()), (1, every)];
    assert_eq!(read(&file, &[100, 700, 3], 7).bytes, whole(&file));
}

#[test]
fn d07_equal_lines_of_equal_stamps_are_counted() {
    let file: File = (0..50)
        .map(|n| (700_000_000 + n / 10, b"same\n".to_vec()))
        .collect();
    for cut in 0..serve(&file, None).len() {
        let got = read(&file, &[cut], 11);
        assert_eq!(got.bytes, whole(&file), "cut after {cut}");
        assert!(got.gaps.is_empty());
    }
}

#[test]
fn d06_a_late_nanosecond_loses_nothing() {
    let file: File = (0..1000)
        .map(|n| (n * 999_999, format!("{n}\n").into_bytes()))
        .collect();
    let got = read(&file, &[serve(&file, None).len() * 7 / 10], 4096);
    assert_eq!(got.bytes, whole(&file));
}

#[test]
fn lines_out_of_order_are_told_once() {
    let file = lines(&[
        (10, "a\n"),
        (30, "b\n"),
        (20, "c\n"),
        (30, "d\n"),
        (10, "e\n"),
        (40, "f\n"),
    ]);
    for cut in 0..serve(&file, None).len() {
        let got = read(&file, &[cut], 5);
        assert_eq!(got.bytes, whole(&file), "cut after {cut}");
        assert!(got.gaps.is_empty(), "cut after {cut}: {:?}", got.gaps);
    }
}

#[test]
fn d04_a_rotated_log_is_a_gap() {
    let before = lines(&[(0, "a\n"), (5_000_000_000, "b\n")]);
    let after = lines(&[(5_500_000_000, "c\n"), (9_000_000_000, "d\n")]);
    let mut got = read(&before, &[], 100);
    let mut reader = Reader::new(&got.position);
    got.take(reader.feed(&serve(&after, None)));
    got.take(reader.finish(true));
    assert_eq!(got.bytes, b"a\nb\nc\nd\n");
    assert_eq!(got.gaps.len(), 1, "{:?}", got.gaps);
}

#[test]
fn the_kubelets_own_words_are_no_log() {
    let mut got = Got::default();
    let mut reader = Reader::new(&LogPosition::default());
    got.take(reader.feed(b"unable to retrieve container logs for containerd://abc"));
    got.take(reader.finish(true));
    assert_eq!(got.bytes, b"");
    assert!(got.gaps[0].contains("unable to retrieve"), "{:?}", got.gaps);
}

#[test]
fn d08_a_long_line_resumes_in_its_middle() {
    let long: Vec<u8> = (0..1_048_576u32)
        .map(|n| b'a' + (n % 23) as u8)
        .chain([b'\n'])
        .collect();
    let file = vec![(1, b"x\n".to_vec()), (2, long), (3, b"y\n".to_vec())];
    let got = read(&file, &[500_000, 900_000], 8192);
    assert_eq!(got.bytes, whole(&file));
    assert_eq!(got.starts.len(), 3);
}

#[test]
fn marks_survive_the_wire() {
    let got = read(&lines(&[(123_456_789, "abc")]), &[], 100);
    assert_eq!(
        got.position.mark.as_deref(),
        Some("2027-01-15T08:00:00.123456789Z/1/3")
    );
    assert_eq!(Mark::decode("soon"), None);
    assert_eq!(Mark::decode("2027-01-15T08:00:00Z/1/3/4"), None);
}

proptest! {
    #[test]
    fn d05_any_cuts_give_every_byte_once(
        steps in prop::collection::vec((-3i64..400_000_000, "[ab\r\0]{0,6}"), 1..60),
        cuts in prop::collection::vec(0usize..2500, 0..8),
        step in 1usize..64,
    ) {
        let mut at = 0;
        let file: File = steps
            .into_iter()
            .map(|(step, text)| {
                at += step;
                (at, format!("{text}\n").into_bytes())
            })
            .collect();
        let got = read(&file, &cuts, step);
        prop_assert_eq!(got.bytes, whole(&file));
        prop_assert!(got.gaps.is_empty());
    }
}

/// Positions lie in a database and come back as they may: ours with odd numbers, or anybody's words.
fn any_mark() -> impl Strategy<Value = String> {
    let second = prop_oneof![Just(0), -300_000_000_000_i64..250_000_000_000, Just(EPOCH)];
    let odd = prop_oneof![Just(0), Just(u64::MAX), 0..20_u64];
    let ours = (second, 0..3_u32, odd).prop_map(|(second, nth, done)| {
        let stamp = Timestamp::from_second(second).unwrap_or(Timestamp::MIN);
        format!("{stamp}/{nth}/{done}")
    });
    prop_oneof![3 => ours, 1 => "\\PC{0,40}"]
}

proptest! {
    #[test]
    fn d05_any_position_and_any_bytes_are_read_or_refused(
        offset in prop_oneof![any::<u64>(), Just(u64::MAX)],
        mark in proptest::option::of(any_mark()),
        lines in prop::collection::vec((any::<bool>(), 0..3_000_000_000_i64, prop::collection::vec(any::<u8>(), 0..30)), 0..20),
        step in 1usize..64,
    ) {
        let mut served = Vec::new();
        for (stamped, nanos, line) in lines {
            if stamped {
                served.extend_from_slice(format!("{:.9} ", stamp(nanos)).as_bytes());
            }
            served.extend_from_slice(&line);
        }
        let mut reader = Reader::new(&LogPosition { offset, mark });
        let mut items = Vec::new();
        for piece in served.chunks(step) {
            items.extend(reader.feed(piece));
        }
        items.extend(reader.finish(true));
        let mut before = offset;
        for item in items {
            if let LogItem::Chunk(chunk) = item {
                prop_assert!(chunk.position.offset >= before, "an offset never goes back");
                before = chunk.position.offset;
            }
        }
    }
}

/// Reads one file to its end, then another that the node has begun since.
fn read_on(before: Before, first: &File, second: &File) -> Got {
    let mut got = Got::default();
    let mut reader = Reader::new(&LogPosition::default());
    got.take(reader.feed(&serve(first, None)));
    got.take(reader.finish(false));
    reader.restart(before);
    got.take(reader.feed(&serve(second, None)));
    got.take(reader.finish(true));
    got
}

#[test]
fn d04_a_file_that_was_read_to_its_end_adjoins_the_next_one() {
    let first = lines(&[(0, "a\n"), (5_000_000_000, "b\n")]);
    let soon = lines(&[(5_100_000_000, "c\n")]);
    let later = lines(&[(8_000_000_000, "c\n")]);
    let disordered = lines(&[(4_900_000_000, "lost\n"), (5_100_000_000, "c\n")]);
    let late = Before::AtEnd { late: true };
    let in_time = Before::AtEnd { late: false };
    for (before, second, gaps) in [
        (Before::Cut, &soon, 1),
        (late, &soon, 0),
        (late, &later, 1),
        (in_time, &later, 0),
        (in_time, &disordered, 1),
    ] {
        let got = read_on(before, &first, second);
        assert_eq!(got.bytes, b"a\nb\nc\n");
        assert_eq!(got.gaps.len(), gaps, "{before:?}: {:?}", got.gaps);
    }
}

#[test]
fn d04_where_a_file_may_have_been_skipped_the_bytes_are_parted() {
    let file = lines(&[
        (0, "a\n"),
        (1_000_000_000, "b\n"),
        (4_000_000_000, "c\n"),
        (4_500_000_000, "d\n"),
    ]);
    let mut reader = Reader::new(&LogPosition::default());
    let items = reader.feed(&serve(&file, None));
    let jumps = reader.jumps();
    assert_eq!((items.len(), jumps.len()), (2, 1));
    assert_eq!(
        jumps[0],
        Jump {
            at: 1,
            from: stamp(1_000_000_000)
        }
    );
    assert_eq!(reader.jumps(), [], "told once");
}
