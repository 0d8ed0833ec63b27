//! The arrows between rooms: checks the paths one source names against the table.

use anyhow::{Context, Result};

use super::paths::{self, Named};
use super::rules::{Bound, HOUSES, House, ROOM_RULES, RoomRule};
use crate::report::Breach;
use crate::tree::Source;

/// The rules `source` breaks; a file outside the houses breaks none.
pub fn check(source: &Source) -> Result<Vec<Breach>> {
    let Some((house, module)) = locate(&source.path) else {
        return Ok(Vec::new());
    };
    let room = module.first().map_or("main", String::as_str);
    if !house.rooms.iter().any(|(name, _)| *name == room) {
        return Ok(vec![unknown(source, house, room)]);
    }
    let named = paths::named(&source.text, &module).with_context(|| source.path.clone())?;
    let rules = ROOM_RULES
        .iter()
        .filter(|rule| rule.src == house.src && binds(&rule.bound, room));
    let mut breaches: Vec<Breach> = rules.flat_map(|rule| broken(source, rule, &named)).collect();
    breaches.sort();
    breaches.dedup();
    Ok(breaches)
}

/// The house a file stands in, and the module it is: `server/src/http/runs.rs` is `http::runs`.
fn locate(path: &str) -> Option<(&'static House, Vec<String>)> {
    let house = HOUSES.iter().find(|house| path.starts_with(house.src))?;
    let below = path[house.src.len()..].strip_suffix(".rs")?;
    let mut module: Vec<String> = below.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    Some((house, module))
}

fn unknown(source: &Source, house: &House, room: &str) -> Breach {
    let sentence = format!(
        "`{room}` is not a room of {}: put the file in one, or add the room with its arrows to xtask/src/arrows/rules.rs and ARCHITECTURE.md",
        house.src
    );
    Breach::new(&source.path, 0, sentence)
}

fn binds(bound: &Bound, room: &str) -> bool {
    match bound {
        Bound::In(rooms) => rooms.contains(&room),
        Bound::AllBut(rooms) => !rooms.contains(&room),
    }
}

fn broken(source: &Source, rule: &RoomRule, named: &[Named]) -> Vec<Breach> {
    named
        .iter()
        .filter(|named| rule.never.iter().any(|never| names(&named.path, never)))
        .map(|named| {
            let sentence = format!("{} (names `{}`)", rule.sentence, named.path.join("::"));
            Breach::new(&source.path, named.line, sentence)
        })
        .collect()
}

/// Whether `path` begins with `pattern`, segment by segment.
fn names(path: &[String], pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.split("::").collect();
    path.len() >= parts.len()
        && parts
            .iter()
            .zip(path)
            .all(|(part, segment)| match part.strip_suffix('*') {
                Some(stem) => segment.starts_with(stem),
                None => part == segment,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text))
            .unwrap()
            .iter()
            .map(Breach::to_string)
            .collect()
    }

    #[test]
    fn a_handler_that_calls_the_database_is_told_the_rule_and_the_line() {
        let seen = breaches(
            "server/src/http/runs.rs",
            "use crate::runs;\nuse crate::{auth, db::run};\n",
        );
        assert_eq!(
            seen,
            [
                "server/src/http/runs.rs:2: http -> runs -> db: a handler asks a service (runs, clusters, logs, webhooks, auth, projects), never the database (names `crate::db::run`)"
            ]
        );
    }

    #[test]
    fn every_rule_can_be_broken() {
        for rule in ROOM_RULES {
            let house = HOUSES.iter().find(|house| house.src == rule.src).unwrap();
            let (room, _) = house
                .rooms
                .iter()
                .find(|(room, _)| *room != "main" && binds(&rule.bound, room))
                .unwrap();
            for never in rule.never {
                let text = format!("fn f() {{ {}::thing(); }}", never.trim_end_matches('*'));
                let seen = breaches(&format!("{}{room}/file.rs", rule.src), &text);
                assert!(
                    seen.iter().any(|s| s.contains(rule.sentence)),
                    "`{never}` in {room} passes: {seen:?}"
                );
            }
        }
    }

    #[test]
    fn every_rule_names_rooms_that_exist() {
        for rule in ROOM_RULES {
            let house = HOUSES.iter().find(|house| house.src == rule.src).unwrap();
            let known = |room: &str| house.rooms.iter().any(|(name, _)| *name == room);
            let (Bound::In(bound) | Bound::AllBut(bound)) = rule.bound;
            let named = rule
                .never
                .iter()
                .filter_map(|never| never.strip_prefix("crate::"));
            for room in bound.iter().copied().chain(named) {
                assert!(known(room), "{room} of `{}` is no room", rule.sentence);
            }
        }
    }

    #[test]
    fn sql_outside_db_is_refused_and_inside_it_is_not() {
        let text = "async fn f(p: sqlx::PgPool) { sqlx::query_scalar!(\"select 1\").fetch_one(&p).await; }";
        assert!(
            breaches("server/src/dispatch/claim.rs", text)[0].contains("SQL lives only in server/src/db/")
        );
        assert_eq!(breaches("server/src/db/dispatch.rs", text), [""; 0]);
    }

    #[test]
    fn a_room_nobody_wrote_down_is_refused() {
        let seen = breaches("server/src/misc.rs", "");
        assert!(
            seen[0].starts_with("server/src/misc.rs: `misc` is not a room of server/src/"),
            "{seen:?}"
        );
    }

    #[test]
    fn the_file_of_a_room_and_the_files_below_it_are_one_room() {
        for path in [
            "server/src/watch.rs",
            "server/src/watch/mod.rs",
            "server/src/watch/a/b.rs",
        ] {
            assert_eq!(breaches(path, "use crate::db;").len(), 1, "{path}");
        }
        assert_eq!(breaches("server/src/main.rs", "use crate::db;"), [""; 0]);
    }
}
