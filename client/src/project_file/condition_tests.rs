use super::*;

const GOOD: Outcomes = Outcomes {
    success: true,
    failure: false,
};
const BAD: Outcomes = Outcomes {
    success: false,
    failure: true,
};
const SKIPPED: Outcomes = Outcomes {
    success: false,
    failure: false,
};

fn read(text: &str) -> Condition {
    let env = |space: &str, name: &str| (space == "env" && name == "X").then(|| "it's y".to_owned());
    Condition::parse(text).unwrap().with(&env)
}

#[test]
fn says_whether_a_stage_runs() {
    for (text, good, bad, skipped) in [
        ("always()", true, true, true),
        ("success()", true, false, false),
        ("failure()", false, true, false),
        ("!failure()", true, false, true),
        ("success() || failure()", true, true, false),
        ("${env.X} == 'it''s y'", true, false, false),
        ("${env.X} != \"it's y\"", false, false, false),
        ("${env.NONE} == ''", true, false, false),
        ("${env.NONE:-a} == a && always()", true, true, true),
        ("${env.X}", true, false, false),
        ("${env.NONE} || false || 0", false, false, false),
        ("(true || false) && (always())", true, true, true),
        ("false || true && true", true, false, false),
    ] {
        let condition = read(text);
        assert_eq!(
            [GOOD, BAD, SKIPPED].map(|needs| condition.holds(needs)),
            [good, bad, skipped],
            "{text}"
        );
        let again = Condition::parse(&condition.to_string()).unwrap();
        assert_eq!(again, condition, "{text} is written as {condition}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    for (text, start) in [
        ("", 0),
        ("a ==", 0),
        ("a = b", 2),
        ("(a", 2),
        ("a b", 2),
        ("sucess()", 0),
        ("'a", 0),
        ("${HOME}", 0),
        ("${env.A", 0),
        ("&& a", 0),
    ] {
        assert_eq!(Condition::parse(text).unwrap_err().range.start, start, "{text}");
    }
    assert!(Condition::parse(&"!".repeat(10_000)).is_err());
    assert!(Condition::parse(&"(".repeat(10_000)).is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a!&|=() '\"${}.envx]{0,40}") {
        if let Ok(condition) = Condition::parse(&text) {
            let again = Condition::parse(&condition.to_string()).unwrap();
            for needs in [GOOD, BAD, SKIPPED] {
                let env = |_: &str, _: &str| Some("v".to_owned());
                proptest::prop_assert_eq!(condition.with(&env).holds(needs), again.with(&env).holds(needs));
            }
        }
    }
}
