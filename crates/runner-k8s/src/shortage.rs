//! Kueue's sentence on missing quota, told shorter and first: what has to become free, or that nothing ever will be
//! enough. The sentences are those in the source of Kueue 0.8 to 0.19; of any other nothing is made.
//!
//! Called by `observe` for the reason of a run that waits. Pure.

/// Both kinds of clause begin with it.
const CLAUSE: &str = "insufficient ";

/// What one clause says of one resource in one flavor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack<'a> {
    /// This much more has to become free.
    Short(&'a str),
    /// More is asked for than the flavor has, all told; the most it has, where Kueue says it.
    Never(Option<&'a str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clause<'a> {
    resource: &'a str,
    flavor: &'a str,
    lack: Lack<'a>,
}

/// `waiting for 400m more cpu, 1 more nvidia.com/gpu`, or `asks for more cpu than the queue ever has (at most 4): ..`;
/// `None` where the message is about something else.
pub(crate) fn shortage(message: &str) -> Option<String> {
    let clauses: Vec<Clause<'_>> = message.split(CLAUSE).skip(1).filter_map(clause).collect();
    let never = |flavor: &str| {
        let mut of_flavor = clauses.iter().filter(|clause| clause.flavor == flavor);
        of_flavor.any(|clause| matches!(clause.lack, Lack::Never(_)))
    };
    // A flavor that is too small for one resource is no hope for the others.
    let hopes: Vec<&Clause<'_>> = clauses.iter().filter(|clause| !never(clause.flavor)).collect();
    if hopes.is_empty() {
        return too_much(&clauses);
    }
    let wants: Vec<String> = resources(hopes.iter().copied())
        .into_iter()
        .map(|resource| want(resource, &hopes))
        .collect();
    Some(format!("waiting for {}", wants.join(", ")))
}

/// One clause, without its first word: `unused quota for cpu in flavor default, 400m more needed`.
fn clause(text: &str) -> Option<Clause<'_>> {
    let (kind, rest) = text.split_once(" for ")?;
    let (resource, rest) = rest.split_once(" in flavor ")?;
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    let (flavor, rest) = rest.split_at(end);
    let lack = match kind {
        "quota" => Lack::Never(capacity(rest)),
        "unused quota" | "unused quota in cohort" => {
            Lack::Short(rest.strip_prefix(", ")?.split_once(" more needed")?.0)
        }
        _ => return None,
    };
    Some(Clause {
        resource,
        flavor,
        lack,
    })
}

/// `4` of `.. > maximum capacity (4)`, and of `request > maximum capacity (5 > 4)`.
fn capacity(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("maximum capacity (")?;
    let (inside, _) = after.split_once(')')?;
    Some(inside.rsplit(" > ").next().unwrap_or(inside))
}

/// Each resource once, in the order of the message.
fn resources<'a>(clauses: impl Iterator<Item = &'a Clause<'a>>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for clause in clauses {
        if !all.contains(&clause.resource) {
            all.push(clause.resource);
        }
    }
    all
}

/// `400m more cpu`; where several flavors would do, `400m more cpu in flavor spot or 1 more in flavor fixed`.
fn want(resource: &str, hopes: &[&Clause<'_>]) -> String {
    let mut ways: Vec<(&str, &str)> = Vec::new();
    for clause in hopes.iter().filter(|clause| clause.resource == resource) {
        if let Lack::Short(amount) = clause.lack
            && !ways.contains(&(amount, clause.flavor))
        {
            ways.push((amount, clause.flavor));
        }
    }
    if let [(amount, _)] = ways.as_slice() {
        return format!("{amount} more {resource}");
    }
    let ways: Vec<String> = ways
        .iter()
        .map(|(amount, flavor)| format!("{amount} more in flavor {flavor}"))
        .collect();
    format!("{resource}: {}", ways.join(" or "))
}

fn too_much(clauses: &[Clause<'_>]) -> Option<String> {
    let most: Vec<String> = resources(clauses.iter())
        .into_iter()
        .filter_map(|resource| {
            let mut of_resource = clauses.iter().filter(|clause| clause.resource == resource);
            of_resource.find_map(|clause| match clause.lack {
                Lack::Never(Some(most)) => Some(format!("{resource} (at most {most})")),
                Lack::Never(None) => Some(resource.to_owned()),
                Lack::Short(_) => None,
            })
        })
        .collect();
    (!most.is_empty()).then(|| {
        format!(
            "asks for more {} than the queue ever has: it waits until the quota grows, so ask for less",
            most.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Option<String> {
        shortage(&format!("couldn't assign flavors to pod set main: {message}"))
    }

    #[test]
    fn kueues_words_on_missing_quota() {
        let one = "insufficient unused quota for cpu in flavor default, 400m more needed";
        assert_eq!(told(one).as_deref(), Some("waiting for 400m more cpu"));
        let two = "insufficient unused quota for cpu in flavor a, 1 more needed, insufficient unused quota for memory in flavor a, 1Gi more needed";
        assert_eq!(
            told(two).as_deref(),
            Some("waiting for 1 more cpu, 1Gi more memory")
        );
        let cohort = "insufficient unused quota in cohort for cpu in flavor default, 1 more needed";
        assert_eq!(told(cohort).as_deref(), Some("waiting for 1 more cpu"));
        let preempting = format!("{one}. Pending the preemption of 1 workload(s)");
        assert_eq!(told(&preempting).as_deref(), Some("waiting for 400m more cpu"));
        assert_eq!(shortage("LocalQueue typo doesn't exist"), None);
        assert_eq!(told("untolerated taint {gpu NoSchedule} in flavor a"), None);
    }

    #[test]
    fn several_flavors_are_a_choice() {
        let message = "insufficient unused quota for cpu in flavor fixed, 1 more needed, insufficient unused quota for cpu in flavor spot, 400m more needed";
        assert_eq!(
            told(message).as_deref(),
            Some("waiting for cpu: 1 more in flavor fixed or 400m more in flavor spot")
        );
    }

    #[test]
    fn more_than_there_ever_is_is_no_wait() {
        let least = "asks for more cpu (at most 1) than the queue ever has: it waits until the quota grows, so ask for less";
        let now = "insufficient quota for cpu in flavor default, previously considered podsets requests (0) + current podset request (1500m) > maximum capacity (1)";
        assert_eq!(told(now).as_deref(), Some(least));
        let before = "insufficient quota for cpu in flavor default, request > maximum capacity (1500m > 1)";
        assert_eq!(told(before).as_deref(), Some(least));
        let first = "insufficient quota for cpu in flavor default in ClusterQueue";
        assert_eq!(told(first), Some(least.replace(" (at most 1)", "")));
        // Of another resource of the same flavor enough would become free.
        let mixed = format!("{now}, insufficient unused quota for memory in flavor default, 1Gi more needed");
        assert_eq!(told(&mixed).as_deref(), Some(least));
        let elsewhere = format!("{now}, insufficient unused quota for cpu in flavor spot, 200m more needed");
        assert_eq!(told(&elsewhere).as_deref(), Some("waiting for 200m more cpu"));
    }
}
