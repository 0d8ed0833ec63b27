use std::io::Write as _;

use proptest::prelude::*;
use qwex_runner::LogChunk;

use super::*;

/// Stream, whether the line has an end, text.
type Written = (bool, bool, Vec<u8>);

fn file_of(written: &[Written]) -> Vec<u8> {
    let mut file = Vec::new();
    for (nanos, (stderr, has_end, text)) in written.iter().enumerate() {
        let stream = if *stderr { "stderr" } else { "stdout" };
        let kind = if *has_end { "F" } else { "P" };
        file.extend_from_slice(format!("2026-11-21T12:08:04.{nanos:09}+00:00 {stream} {kind} ").as_bytes());
        file.extend_from_slice(text);
        file.push(b'\n');
    }
    file
}

fn log_of(written: &[Written], stderr: bool) -> Vec<u8> {
    let own = written.iter().filter(|line| line.0 == stderr);
    own.flat_map(|(_, has_end, text)| [text.as_slice(), if *has_end { b"\n" } else { b"" }].concat())
        .collect()
}

/// Everything that can be read now.
fn drain(mut reader: Reader) -> (Reader, Vec<LogChunk>) {
    let mut chunks = Vec::new();
    loop {
        let (next, items) = reader.next().unwrap();
        reader = next;
        if items.is_empty() {
            return (reader, chunks);
        }
        for item in items {
            match item {
                LogItem::Chunk(chunk) => chunks.push(chunk),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn bytes(chunks: &[LogChunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// Begins of lines, as offsets in the log from `before` on.
fn starts(chunks: &[LogChunk], mut before: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for chunk in chunks {
        all.extend(chunk.lines.iter().map(|line| before + line.at_byte));
        before += chunk.bytes.len();
    }
    all
}

fn check(written: &[Written], cuts: &[usize]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ctr.log");
    let whole = file_of(written);
    for (stderr, stream) in [(false, Stream::Stdout), (true, Stream::Stderr)] {
        let wanted = log_of(written, stderr);
        let mut file = File::create(&path).unwrap();
        let open = |from: &LogPosition| Reader::open(path.clone(), stream, from).unwrap();
        let mut reader = open(&LogPosition::default());
        let mut chunks = Vec::new();
        let mut at = 0;
        // It grows piece by piece, cut anywhere, and is read in between.
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let end = at.max(cut % (whole.len() + 1));
            let end = if cut == usize::MAX { whole.len() } else { end };
            file.write_all(&whole[at..end]).unwrap();
            at = end;
            let (next, more) = drain(reader);
            reader = next;
            chunks.extend(more);
        }
        assert_eq!(bytes(&chunks), wanted);
        assert!(reader.rest().is_none());
        let lines = starts(&chunks, 0);
        for chunk in &chunks {
            let offset = usize::try_from(chunk.position.offset).unwrap();
            let (_, rest) = drain(open(&chunk.position));
            assert_eq!(bytes(&rest), wanted[offset..], "from {:?}", chunk.position);
            let later: Vec<usize> = lines.iter().copied().filter(|at| *at >= offset).collect();
            assert_eq!(starts(&rest, offset), later, "from {:?}", chunk.position);
            // The place in the file was lost, the offset is known.
            let only_offset = LogPosition {
                offset: chunk.position.offset,
                mark: None,
            };
            let (_, rest) = drain(open(&only_offset));
            assert_eq!(bytes(&rest), wanted[offset..], "from offset {offset}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn h05_podmans_file_is_read_whole_while_it_grows(
        written in prop::collection::vec(
            (any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>().prop_filter("no line ends", |byte| *byte != b'\n'), 0..40)),
            0..20,
        ),
        mut cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let length = file_of(&written).len() + 1;
        cuts.sort_by_key(|cut| cut % length);
        check(&written, &cuts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn h05_any_file_from_any_position_is_read_or_refused(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..400),
        offset in prop_oneof![any::<u64>(), Just(u64::MAX), 0..20_u64],
        mark in proptest::option::of(prop_oneof!["\\PC{0,12}", "[0-9]{1,22}[+]{0,2}"]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctr.log");
        std::fs::write(&path, [b"2026-11-21T12:08:04.1+00:00 stdout F kept\n".as_slice(), &bytes].concat()).unwrap();
        let mut reader = Reader::open(path, Stream::Stdout, &LogPosition { offset, mark }).ok();
        while let Some(open) = reader.take() {
            match open.next() {
                Ok((next, items)) if !items.is_empty() => reader = Some(next),
                Ok((mut last, _)) => drop(last.rest()),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn what_is_no_line_of_podman_is_left_out_and_a_torn_one_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ctr.log");
    let text = "nonsense\n2026-11-21T12:08:04.1+00:00 stdout F kept\n2026-11-21T12:08:04.2+00:00 stdout F\n2026-11-21T12";
    std::fs::write(&path, text).unwrap();
    let reader = Reader::open(path, Stream::Stdout, &LogPosition::default()).unwrap();
    let (mut reader, chunks) = drain(reader);
    assert_eq!(bytes(&chunks), b"kept\n");
    assert!(matches!(reader.rest(), Some(LogItem::Gap { .. })));
}
