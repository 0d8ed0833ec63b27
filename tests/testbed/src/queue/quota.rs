//! Quota arithmetic of the stand-in: what a pod set asks for, which flavors it fits in, and the sentences for when it
//! does not. Pure; amounts are whole thousandths, as Kubernetes counts CPU.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::api::{Admission, ClusterQueueSpec, FlavorQuotas, PodSet, PodSetAssignment, ResourceGroup};

/// Thousandths of one unit.
pub type Milli = i128;
/// Resource -> amount.
pub type Amounts = BTreeMap<String, Milli>;
/// (flavor, resource) -> amount.
pub type Usage = BTreeMap<(String, String), Milli>;

/// Reads `500m`, `1.5`, `2Gi`, `1e3`; anything else is 0, as an absent request would be.
pub fn parse(quantity: &Quantity) -> Milli {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len().min(12)).unwrap_or(12);
    let Ok(value) = format!("{whole}{}", &fraction[..digits as usize]).parse::<Milli>() else {
        return 0;
    };
    let Some(scale) = scale(suffix) else { return 0 };
    let scaled = value * scale;
    let unit = 10_i128.pow(digits) * 1_000_000;
    // Rounded up, as Kubernetes does.
    scaled.div_euclid(unit) + Milli::from(scaled.rem_euclid(unit) != 0)
}

/// Millionths of a thousandth that one unit with this suffix is.
fn scale(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    let binary = |power| ONE * 1024_i128.pow(power);
    Some(match suffix {
        "" => ONE,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        exponent => ONE * 10_i128.checked_pow(exponent.strip_prefix(['e', 'E'])?.parse().ok()?)?,
    })
}

/// Writes an amount as Kubernetes would for this resource.
pub fn show(resource: &str, amount: Milli) -> String {
    if amount % 1000 != 0 {
        return format!("{amount}m");
    }
    let units = amount / 1000;
    if resource == "memory" || resource == "ephemeral-storage" {
        for (power, suffix) in [(4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")] {
            let unit = 1024_i128.pow(power);
            if units != 0 && units % unit == 0 {
                return format!("{}{suffix}", units / unit);
            }
        }
    }
    units.to_string()
}

/// What all pods of a set ask for together.
pub fn requests(set: &PodSet) -> Amounts {
    let Some(spec) = &set.template.spec else {
        return Amounts::new();
    };
    let mut amounts = of_pod(spec);
    amounts.insert("pods".to_owned(), 1000);
    amounts
        .values_mut()
        .for_each(|amount| *amount *= Milli::from(set.count));
    amounts
}

fn of_pod(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        for (resource, amount) in of_container(container) {
            *total.entry(resource).or_default() += amount;
        }
    }
    for container in spec.init_containers.iter().flatten() {
        for (resource, amount) in of_container(container) {
            let sum = total.entry(resource).or_default();
            *sum = (*sum).max(amount);
        }
    }
    for (resource, quantity) in spec.overhead.iter().flatten() {
        *total.entry(resource.clone()).or_default() += parse(quantity);
    }
    total
}

/// Requests, or the limit where there is no request.
fn of_container(container: &Container) -> Amounts {
    let Some(resources) = &container.resources else {
        return Amounts::new();
    };
    let limits = resources.limits.iter().flatten();
    let requests = resources.requests.iter().flatten();
    limits
        .chain(requests)
        .map(|(resource, quantity)| (resource.clone(), parse(quantity)))
        .collect()
}

/// Why a workload does not fit: reason and message of `QuotaReserved`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoFit {
    pub reason: &'static str,
    pub message: String,
}

impl NoFit {
    /// Whether others giving up their quota could help.
    pub fn may_fit_later(&self) -> bool {
        self.reason == "WaitingForQuota"
    }
}

/// Finds flavors for every pod set in what is left of a ClusterQueue.
pub fn assign(
    name: &str,
    queue: &ClusterQueueSpec,
    used: &Usage,
    sets: &[PodSet],
) -> Result<Admission, NoFit> {
    let mut used = used.clone();
    let mut pod_set_assignments = Vec::new();
    for set in sets {
        let assigned = assign_set(queue, &mut used, set).map_err(|trouble| NoFit {
            reason: trouble.reason,
            message: format!(
                "couldn't assign flavors to pod set {}: {}",
                set.name, trouble.message
            ),
        })?;
        pod_set_assignments.push(assigned);
    }
    Ok(Admission {
        cluster_queue: name.to_owned(),
        pod_set_assignments,
    })
}

fn assign_set(queue: &ClusterQueueSpec, used: &mut Usage, set: &PodSet) -> Result<PodSetAssignment, NoFit> {
    let mut requests = requests(set);
    let covers =
        |group: &ResourceGroup, resource: &str| group.covered_resources.iter().any(|name| name == resource);
    // Pods are counted only where the queue has a quota for them; zero of anything always fits.
    let counted = |resource: &str| {
        resource != "pods" || queue.resource_groups.iter().any(|group| covers(group, resource))
    };
    requests.retain(|resource, amount| *amount > 0 && counted(resource));
    let mut flavors = BTreeMap::new();
    for resource in requests.keys() {
        if !queue.resource_groups.iter().any(|group| covers(group, resource)) {
            let message = format!("resource {resource} unavailable in ClusterQueue");
            return Err(NoFit {
                reason: "NoMatchingFlavor",
                message,
            });
        }
    }
    for group in &queue.resource_groups {
        let wanted: Amounts = requests
            .iter()
            .filter(|(resource, _)| covers(group, resource))
            .map(|(r, a)| (r.clone(), *a))
            .collect();
        let flavor = assign_group(group, used, &wanted)?;
        for (resource, amount) in wanted {
            *used.entry((flavor.clone(), resource.clone())).or_default() += amount;
            flavors.insert(resource, flavor.clone());
        }
    }
    let usage = requests
        .iter()
        .map(|(resource, amount)| (resource.clone(), Quantity(show(resource, *amount))));
    Ok(PodSetAssignment {
        name: set.name.clone(),
        flavors,
        resource_usage: usage.collect(),
        count: set.count,
    })
}

/// The first flavor of the group in which everything fits.
fn assign_group(group: &ResourceGroup, used: &Usage, wanted: &Amounts) -> Result<String, NoFit> {
    let mut reasons = Vec::new();
    let mut hopeless = true;
    for flavor in &group.flavors {
        let troubles: Vec<_> = wanted
            .iter()
            .filter_map(|(name, amount)| shortage(flavor, used, name, *amount))
            .collect();
        if troubles.is_empty() {
            return Ok(flavor.name.clone());
        }
        hopeless &= troubles.iter().any(|(never, _)| *never);
        reasons.extend(troubles.into_iter().map(|(_, text)| text));
    }
    let reason = if hopeless {
        "ExceedsMaxQuota"
    } else {
        "WaitingForQuota"
    };
    Err(NoFit {
        reason,
        message: reasons.join(", "),
    })
}

/// Whether it never fits, and the sentence; `None` when it fits.
fn shortage(flavor: &FlavorQuotas, used: &Usage, resource: &str, amount: Milli) -> Option<(bool, String)> {
    let quota = flavor.resources.iter().find(|quota| quota.name == resource);
    let nominal = quota.map_or(0, |quota| parse(&quota.nominal_quota));
    let free = nominal
        - used
            .get(&(flavor.name.clone(), resource.to_owned()))
            .copied()
            .unwrap_or(0);
    let name = &flavor.name;
    if amount > nominal {
        let (asked, most) = (show(resource, amount), show(resource, nominal));
        return Some((
            true,
            format!(
                "insufficient quota for {resource} in flavor {name}, previously considered podsets requests (0) \
                 + current podset request ({asked}) > maximum capacity ({most})"
            ),
        ));
    }
    let short = amount - free;
    let text = || {
        format!(
            "insufficient unused quota for {resource} in flavor {name}, {} more needed",
            show(resource, short)
        )
    };
    (short > 0).then(|| (false, text()))
}

/// Adds what an admission holds.
pub fn add(used: &mut Usage, admission: &Admission) {
    for set in &admission.pod_set_assignments {
        for (resource, flavor) in &set.flavors {
            let amount = set.resource_usage.get(resource).map_or(0, parse);
            *used.entry((flavor.clone(), resource.clone())).or_default() += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quantity(text: &str) -> Milli {
        parse(&Quantity(text.to_owned()))
    }

    fn queue() -> ClusterQueueSpec {
        let quotas = json!([
            { "name": "cpu", "nominalQuota": "1" },
            { "name": "memory", "nominalQuota": "1Gi" },
            { "name": "nvidia.com/gpu", "nominalQuota": 0 },
        ]);
        let group = json!({
            "coveredResources": ["cpu", "memory", "nvidia.com/gpu"],
            "flavors": [{ "name": "default", "resources": quotas }],
        });
        serde_json::from_value(json!({ "resourceGroups": [group] })).unwrap()
    }

    fn set(requests: serde_json::Value) -> PodSet {
        let container = json!({ "name": "main", "resources": { "requests": requests } });
        let template = json!({ "spec": { "containers": [container] } });
        PodSet {
            name: "main".into(),
            count: 1,
            template: serde_json::from_value(template).unwrap(),
        }
    }

    #[test]
    fn quantities_are_read_and_shown() {
        assert_eq!(
            ["1", "500m", "1.5", "2Gi", "1e3", "", "x"].map(quantity),
            [1000, 500, 1500, 2 * 1024 * 1024 * 1024 * 1000, 1_000_000, 0, 0]
        );
        assert_eq!(show("cpu", 400), "400m");
        assert_eq!(show("cpu", 2000), "2");
        assert_eq!(show("memory", quantity("5Mi")), "5Mi");
        assert_eq!(show("nvidia.com/gpu", 1000), "1");
    }

    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_the_real_thing() {
        let sets = [set(json!({ "cpu": "700m" }))];
        let mut used = Usage::new();
        let admission = assign("cq", &queue(), &used, &sets).unwrap();
        assert_eq!(admission.pod_set_assignments[0].flavors["cpu"], "default");
        add(&mut used, &admission);
        let trouble = assign("cq", &queue(), &used, &sets).unwrap_err();
        assert_eq!(
            (trouble.reason, trouble.message.as_str()),
            (
                "WaitingForQuota",
                "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 400m more needed"
            )
        );
        let trouble = assign("cq", &queue(), &used, &[set(json!({ "nvidia.com/gpu": "1" }))]).unwrap_err();
        assert_eq!(trouble.reason, "ExceedsMaxQuota");
        assert!(
            trouble
                .message
                .ends_with("current podset request (1) > maximum capacity (0)"),
            "{}",
            trouble.message
        );
        let trouble = assign("cq", &queue(), &used, &[set(json!({ "amd.com/gpu": "1" }))]).unwrap_err();
        assert!(
            trouble
                .message
                .ends_with("resource amd.com/gpu unavailable in ClusterQueue"),
            "{}",
            trouble.message
        );
    }
}
