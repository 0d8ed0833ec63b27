//! The combinations of a matrix and the names of the stages they make.

use std::collections::BTreeMap;

use super::complaint::Complaint;
use super::parts::Matrix;

/// One combination: names and values, axes first, in the order of the file.
pub type Combination = Vec<(String, String)>;

/// Runs that one stage may become.
pub const MOST: usize = 256;

/// Words that no axis may have for a name.
const NO_AXIS: [&str; 2] = ["include", "exclude"];

impl Matrix {
    /// All combinations, in order.
    #[must_use]
    pub fn combinations(&self) -> Vec<Combination> {
        let mut found = self.product();
        found.retain(|one| !self.exclude.iter().any(|out| fits(one, &out.value)));
        let axes: Vec<&str> = self.axes.iter().map(|(name, _)| name.value.as_str()).collect();
        let of_axes = found.len();
        for more in &self.include {
            if !widen(&mut found[..of_axes], &more.value, &axes) {
                found.push(ordered(&more.value, &axes));
            }
        }
        found
    }

    fn product(&self) -> Vec<Combination> {
        if self.axes.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<Combination> = vec![Vec::new()];
        for (name, values) in &self.axes {
            let longer = found.iter().flat_map(|one| {
                values.iter().map(move |value| {
                    let mut one = one.clone();
                    one.push((name.value.clone(), value.clone()));
                    one
                })
            });
            found = longer.take(MOST * MOST).collect();
        }
        found
    }

    /// What is wrong with it.
    #[must_use]
    pub fn complaints(&self, at: &std::ops::Range<usize>) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (name, values) in &self.axes {
            if values.is_empty() {
                complaints.push(Complaint::new(
                    &name.at,
                    format!("the axis `{}` has no values", name.value),
                ));
            }
            if !is_name(&name.value) {
                let what = format!("`{}` cannot be the name of an axis", name.value);
                complaints.push(Complaint::new(&name.at, what).label("letters, digits, `-` and `_`"));
            }
        }
        for out in &self.exclude {
            let known = |key: &&String| self.axes.iter().any(|(name, _)| name.value == **key);
            if let Some(key) = out.value.keys().find(|key| !known(key)) {
                let axes = self.axes.iter().map(|(name, _)| name.value.as_str());
                complaints.push(
                    Complaint::new(&out.at, format!("`exclude` names `{key}`, which is no axis"))
                        .or_meant(key, axes),
                );
            }
        }
        for key in self
            .include
            .iter()
            .flat_map(|more| more.value.keys().map(move |key| (more, key)))
        {
            if !is_name(key.1) {
                complaints.push(Complaint::new(
                    &key.0.at,
                    format!("`{}` cannot be the name of a value", key.1),
                ));
            }
        }
        if complaints.is_empty() {
            complaints.extend(self.count(at));
        }
        complaints
    }

    fn count(&self, at: &std::ops::Range<usize>) -> Option<Complaint> {
        match self.combinations().len() {
            0 => {
                Some(Complaint::new(at, "the matrix has no combination").fix("give an axis: lr: [0.1, 0.01]"))
            }
            1..=MOST => None,
            many => Some(Complaint::new(
                at,
                format!("the matrix has {many} combinations, the most is {MOST}"),
            )),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !NO_AXIS.contains(&name)
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// Whether a combination has all these values.
fn fits(one: &Combination, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| one.iter().any(|(name, known)| name == key && known == value))
}

/// Adds values to the combinations that have the same values on every axis named; `false` if none has.
fn widen(found: &mut [Combination], more: &BTreeMap<String, String>, axes: &[&str]) -> bool {
    let is_axis = |key: &String| axes.contains(&key.as_str());
    let on_axes: BTreeMap<String, String> = more
        .iter()
        .filter(|(key, _)| is_axis(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut any = false;
    for one in found.iter_mut().filter(|one| fits(one, &on_axes)) {
        any = true;
        for (key, value) in more.iter().filter(|(key, _)| !is_axis(key)) {
            match one.iter_mut().find(|(name, _)| name == key) {
                Some((_, known)) => known.clone_from(value),
                None => one.push((key.clone(), value.clone())),
            }
        }
    }
    any
}

/// A combination of its own: the axes first.
fn ordered(more: &BTreeMap<String, String>, axes: &[&str]) -> Combination {
    let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
    let first = axes.iter().filter_map(|axis| more.get_key_value(*axis)).map(pair);
    let rest = more
        .iter()
        .filter(|(key, _)| !axes.contains(&key.as_str()))
        .map(pair);
    first.chain(rest).collect()
}

/// `train[lr=0.1,seed=1]`; the stage's own name without a matrix.
#[must_use]
pub fn instance_name(stage: &str, one: &Combination) -> String {
    if one.is_empty() {
        return stage.to_owned();
    }
    let pairs: Vec<String> = one
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{stage}[{}]", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(yaml: &str) -> Vec<String> {
        let matrix: Matrix = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(matrix.complaints(&(0..0)), [], "{yaml}");
        matrix
            .combinations()
            .iter()
            .map(|one| instance_name("t", one))
            .collect()
    }

    #[test]
    fn every_combination_in_the_order_of_the_file() {
        assert_eq!(
            names("{lr: [0.10, 1e-3], seed: [1, 2]}"),
            [
                "t[lr=0.10,seed=1]",
                "t[lr=0.10,seed=2]",
                "t[lr=1e-3,seed=1]",
                "t[lr=1e-3,seed=2]"
            ]
        );
    }

    #[test]
    fn some_are_left_out_and_some_come_besides() {
        assert_eq!(
            names(
                "{os: [a, b], v: [1, 2], exclude: [{os: a, v: 2}], include: [{os: b, v: 2, slow: true}, {os: c, v: 9}]}"
            ),
            [
                "t[os=a,v=1]",
                "t[os=b,v=1]",
                "t[os=b,v=2,slow=true]",
                "t[os=c,v=9]"
            ]
        );
        assert_eq!(names("{include: [{a: 1}, {a: 2}]}").len(), 2);
        assert_eq!(
            names("{x: [1, 2], include: [{more: y}]}"),
            ["t[x=1,more=y]", "t[x=2,more=y]"]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for yaml in [
            "{}",
            "{a: []}",
            "{a: [1], exclude: [{b: 1}]}",
            "{'a b': [1]}",
            "{a: [1], exclude: [{a: 1}]}",
        ] {
            let matrix: Matrix = serde_saphyr::from_str(yaml).unwrap();
            assert!(!matrix.complaints(&(0..0)).is_empty(), "{yaml}");
        }
    }
}
