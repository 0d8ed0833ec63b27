use super::super::{Stage, Unread, Variables, expanded};
use super::*;

/// Bits of files, to be put together at random.
const BITS: &[&str] = &[
    "name: ",
    "stages:\n",
    "  - name: a\n",
    "    command: ",
    "    needs: [a, b]\n",
    "    matrix: { x: [1, 2] }\n",
    "    if: ",
    "${env.X:-}",
    "${run.id}",
    "success()",
    "'",
    "\"",
    "[",
    "]",
    "{",
    "}",
    ":",
    "- ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    ">\n",
    "ü",
    "\u{0}",
    "\t",
    "#",
    "---\n",
    "...\n",
    "retry: { limit: 1, backoff: { factor: .inf } }\n",
    "0x1F",
    "1e999",
];

/// Line and column are in the text, or right behind it.
fn has_a_place(complaint: &Complaint, source: Source<'_>) {
    let told = complaint.told(source);
    let lines: Vec<&str> = source.text.split('\n').collect();
    assert!((1..=lines.len()).contains(&told.line), "{told:?}");
    let width = lines[told.line - 1].chars().count();
    assert!((1..=width + 1).contains(&told.column), "{told:?}");
    assert!(!told.message.is_empty());
}

const WHOLE: &str = "\
name: trainer
backend: docker
image: 'python:3.12'
env: { MODE: fast }
vars: { size: '3' }
stages:
  - name: test
    command: [pytest, -q]
    timeout: 5m
  - name: train
    needs: [test]
    backend: docker
    command: |
      python train.py --size ${var.size}
    matrix: { seed: [1, 2], kind: [a, b] }
    retry: { limit: 2, on: [oom, timeout], backoff: { initial: 1s, factor: 2 } }
    resources: { cpu: 2, memory: 4Gi }
    outputs: ['out/*.bin']
  - name: report
    needs: [train]
    if: success()
    command: make report
    allow_failure: true
";

#[test]
fn the_file_that_is_spoilt_below_is_whole() {
    let file = parse::<Vec<Stage>>(WHOLE).unwrap();
    let source = Source {
        path: "q",
        text: WHOLE,
    };
    assert_eq!(
        expanded(&file, source, &Variables::default(), "id", None).map(drop),
        Ok(())
    );
}

proptest::proptest! {
    #[test]
    fn the_reader_never_panics(bits in proptest::collection::vec(0..BITS.len(), 0..40)) {
        let text: String = bits.into_iter().map(|bit| BITS[bit]).collect();
        let source = Source { path: "qwex.yaml", text: &text };
        let _ = parse::<Option<Unread>>(&text);
        match parse::<Vec<Stage>>(&text) {
            Err(complaint) => {
                has_a_place(&complaint, source);
                drop(refused(source, &[*complaint]).text());
            }
            Ok(file) => {
                if let Err(complaints) = expanded(&file, source, &Variables::default(), "id", None) {
                    complaints.iter().for_each(|complaint| has_a_place(complaint, source));
                    drop(refused(source, &complaints).text());
                }
            }
        }
    }

    /// A file that people write, with bytes changed, left out or put in.
    #[test]
    fn a_spoilt_file_is_read_or_refused_with_a_place(
        spoilt in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0..3_u8, "[\\PC\n\t]"), 1..6),
    ) {
        let mut chars: Vec<char> = WHOLE.chars().collect();
        for (at, how, put) in spoilt {
            let at = at.index(chars.len());
            let put = put.chars().next().unwrap_or(' ');
            match how {
                0 => chars[at] = put,
                1 => drop(chars.remove(at)),
                _ => chars.insert(at, put),
            }
        }
        let text: String = chars.into_iter().collect();
        let source = Source { path: "qwex.yaml", text: &text };
        match parse::<Vec<Stage>>(&text) {
            Err(complaint) => has_a_place(&complaint, source),
            Ok(file) => {
                if let Err(complaints) = expanded(&file, source, &Variables::default(), "id", None) {
                    complaints.iter().for_each(|complaint| has_a_place(complaint, source));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "\\PC{0,80}") {
        if let Err(complaint) = parse::<Vec<Stage>>(&text) {
            drop(refused(Source { path: "q", text: &text }, &[*complaint]).text());
        }
    }
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "\n", "# only a note\n"] {
        assert!(parse::<Vec<Stage>>(text).unwrap().stages.is_empty());
    }
}

#[test]
fn a_hostile_file_is_refused_quickly() {
    let deep = "[".repeat(100_000);
    let mut laughs = "a0: &a0 x\n".to_owned();
    for n in 1..40 {
        laughs.push_str(&format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1));
    }
    let wide = format!(
        "stages:\n  - name: a\n    command: x\n    matrix: {{ {} }}\n",
        (0..9)
            .map(|n| format!("a{n}: [1,2,3,4,5,6,7,8,9]"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let started = std::time::Instant::now();
    assert!(parse::<Vec<Stage>>(&deep).is_err());
    assert!(parse::<Vec<Stage>>(&laughs).is_err());
    let file = parse::<Vec<Stage>>(&wide).unwrap();
    let source = Source {
        path: "q",
        text: &wide,
    };
    assert!(expanded(&file, source, &Variables::default(), "id", None).is_err());
    assert!(started.elapsed().as_secs() < 20);
}
