//! Circles of labels. A relabel never changes the tag, so an event that comes back to a label would go round for ever; whoever wires the
//! routers refuses such a configuration before its first line.

use std::collections::HashMap;

/// Each circle as the numbers of the relabels on it, in the order in which an event meets them. `relabels` are the label where a
/// relabel stands and the label that it leads to; filters and patterns in front of it do not count.
pub fn circles(relabels: &[(String, String)]) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (number, (from, to)) in relabels.iter().enumerate() {
        if found.iter().any(|circle| circle.contains(&number)) {
            continue;
        }
        if let Some(back) = way(relabels, to, from) {
            found.push([vec![number], back].concat());
        }
    }
    found
}

/// The shortest way between two labels.
fn way(relabels: &[(String, String)], from: &str, to: &str) -> Option<Vec<usize>> {
    let mut ways: HashMap<&str, Vec<usize>> = HashMap::from([(from, vec![])]);
    let mut next = vec![from];
    while !next.is_empty() && !ways.contains_key(to) {
        let mut reached = Vec::new();
        for label in next {
            for (number, (here, there)) in relabels.iter().enumerate() {
                if here == label && !ways.contains_key(there.as_str()) {
                    let mut longer = ways[label].clone();
                    longer.push(number);
                    ways.insert(there, longer);
                    reached.push(there.as_str());
                }
            }
        }
        next = reached;
    }
    ways.remove(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(relabels: &[(&str, &str)]) -> Vec<Vec<usize>> {
        let owned = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
        circles(&relabels.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn labels_that_lead_on_are_no_circle() {
        let diamond = [("@A", "@B"), ("@A", "@C"), ("@B", "@D"), ("@C", "@D")];
        assert_eq!(found(&diamond), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn each_circle_is_found_once_and_in_its_order() {
        assert_eq!(found(&[("@A", "@A")]), [[0]]);
        let three = [("@B", "@C"), ("@X", "@A"), ("@A", "@B"), ("@C", "@A")];
        assert_eq!(found(&three), [[0, 3, 2]]);
        let two = [("@A", "@B"), ("@B", "@A"), ("@B", "@C"), ("@C", "@C")];
        assert_eq!(found(&two), [vec![0, 1], vec![3]]);
    }
}
