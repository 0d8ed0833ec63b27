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

proptest::proptest! {
    #[test]
    fn the_reader_never_panics(bits in proptest::collection::vec(0..BITS.len(), 0..40)) {
        let text: String = bits.into_iter().map(|bit| BITS[bit]).collect();
        let source = Source { path: "qwex.yaml", text: &text };
        let _ = parse::<Option<Unread>>(&text);
        match parse::<Vec<Stage>>(&text) {
            Err(complaint) => drop(refused(source, &[*complaint]).text()),
            Ok(file) => {
                if let Err(complaints) = expanded(&file, source, &Variables::default(), "id", None) {
                    drop(refused(source, &complaints).text());
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
