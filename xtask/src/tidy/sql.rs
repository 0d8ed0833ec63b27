//! SQL: tables are singular.

use crate::report::Breach;
use crate::tree::Source;

pub fn check(source: &Source) -> Vec<Breach> {
    let plural = |(at, line): (usize, &str)| {
        let name = table_made(line)?;
        let plural = name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("status");
        plural.then(|| Breach::new(&source.path, at + 1, format!("tables are singular: `{name}`")))
    };
    source.text.lines().enumerate().filter_map(plural).collect()
}

/// The name in `create table [if not exists] [schema.]name`.
fn table_made(line: &str) -> Option<String> {
    let lower = line.to_lowercase();
    let mut words = lower
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
        .filter(|w| !w.is_empty());
    words.by_ref().find(|word| *word == "create")?;
    let mut rest = words.skip_while(|word| matches!(*word, "unlogged" | "temp" | "temporary"));
    rest.next().filter(|word| *word == "table")?;
    let name = rest.find(|word| !matches!(*word, "if" | "not" | "exists"))?;
    Some(name.rsplit('.').next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> usize {
        check(&Source::new("a.sql", line)).len()
    }

    #[test]
    fn a_plural_table_is_refused() {
        assert_eq!(found("CREATE TABLE runs ("), 1);
        assert_eq!(
            found("create unlogged table if not exists public.run_events ("),
            1
        );
        assert_eq!(found("create table run ("), 0);
        assert_eq!(found("create table run_status ("), 0);
        assert_eq!(found("create index on runs (id)"), 0);
    }
}
