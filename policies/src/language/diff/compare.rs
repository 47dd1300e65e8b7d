//! Two trees, compared: members of tables by key, rules of a list by name, else by what they say, else by their place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::tree::{NOTHING, Node};
use super::{Change, Difference};

/// The one table whose order matters: classes are served in it.
const ORDERED_TABLE: &str = "class";

/// Every difference.
pub(super) fn compare(from: &Node, to: &Node) -> Vec<Difference> {
    let mut comparison = Comparison { found: Vec::new() };
    comparison.nodes("", from, to);
    comparison.found
}

struct Comparison {
    found: Vec<Difference>,
}

/// What is paired with what, by index; either side may be missing.
type Pairs = Vec<(Option<usize>, Option<usize>)>;

impl Comparison {
    fn nodes(&mut self, path: &str, from: &Node, to: &Node) {
        match (from, to) {
            (Node::Table(before), Node::Table(after)) => self.tables(path, before, after),
            (Node::List(before), Node::List(after)) if all_tables(before) && all_tables(after) => {
                self.rules(path, before, after);
            }
            (Node::List(before), Node::List(after)) if all_text(before) && all_text(after) => {
                self.words(path, before, after);
            }
            _ if from.meaning(None) == to.meaning(None) => {}
            _ => self.note(path, Change::Changed, Some(from.value()), Some(to.value())),
        }
    }

    fn tables(&mut self, path: &str, before: &[(String, Node)], after: &[(String, Node)]) {
        let index: BTreeMap<&str, usize> = positions(after);
        for (key, node) in before {
            let path = member(path, key);
            match index.get(key.as_str()).and_then(|at| after.get(*at)) {
                Some((_, other)) => self.nodes(&path, node, other),
                None => self.gone(&path, node),
            }
        }
        let known: BTreeMap<&str, usize> = positions(before);
        for (key, node) in after.iter().filter(|(key, _)| !known.contains_key(key.as_str())) {
            self.come(&member(path, key), node);
        }
        if path == ORDERED_TABLE {
            let pairs = before.iter().enumerate().map(|(at, (key, _))| (Some(at), index.get(key.as_str()).copied()));
            let name = |at: usize| after.get(at).map_or_else(String::new, |(key, _)| member(path, key));
            self.moves(&pairs.collect(), name);
        }
    }

    fn gone(&mut self, path: &str, node: &Node) {
        match node {
            Node::List(items) if all_tables(items) => self.rules(path, items, &[]),
            node if node.is_collection() => self.nodes(path, node, &NOTHING),
            node => self.note(path, Change::Removed, Some(node.value()), None),
        }
    }

    fn come(&mut self, path: &str, node: &Node) {
        match node {
            Node::List(items) if all_tables(items) => self.rules(path, &[], items),
            node if node.is_collection() => self.nodes(path, &NOTHING, node),
            node => self.note(path, Change::Added, None, Some(node.value())),
        }
    }

    fn rules(&mut self, path: &str, before: &[Node], after: &[Node]) {
        let pairs = pair(before, after);
        let at = |nodes: &[Node], index: usize| rule_path(path, nodes.get(index), index);
        for (from, to) in &pairs {
            let old = from.and_then(|from| before.get(from));
            let new = to.and_then(|to| after.get(to));
            match (old, new) {
                (Some(old), Some(new)) => self.nodes(&at(after, to.unwrap_or_default()), old, new),
                (Some(old), None) => {
                    let index = from.unwrap_or_default();
                    self.note(&at(before, index), Change::Removed, Some(nameless(old)), None);
                    self.place(index, before.len());
                }
                (None, Some(new)) => {
                    let index = to.unwrap_or_default();
                    self.note(&at(after, index), Change::Added, None, Some(nameless(new)));
                    self.place(index, after.len());
                }
                (None, None) => {}
            }
        }
        self.moves(&pairs, |index| at(after, index));
    }

    /// Of the pairs, as few as possible are said to have moved: those outside of a longest run that kept its order.
    fn moves(&mut self, pairs: &Pairs, path: impl Fn(usize) -> String) {
        let mut kept: Vec<(usize, usize)> = pairs.iter().filter_map(|(from, to)| from.zip(*to)).collect();
        kept.sort_unstable();
        let order: Vec<usize> = kept.iter().map(|(_, to)| *to).collect();
        let stayed = longest_run(&order);
        for (from, to) in kept.into_iter().filter(|(_, to)| stayed.binary_search(to).is_err()) {
            self.note(&path(to), Change::Moved, Some(Value::from(from + 1)), Some(Value::from(to + 1)));
        }
    }

    /// A list of words is a set of them, unless only their order differs.
    fn words(&mut self, path: &str, before: &[Node], after: &[Node]) {
        let missing = |from: &[Node], in_: &[Node]| {
            let there: BTreeSet<String> = in_.iter().map(|node| node.meaning(None)).collect();
            from.iter().filter(|node| !there.contains(&node.meaning(None))).map(Node::value).collect::<Vec<_>>()
        };
        let (removed, added) = (missing(before, after), missing(after, before));
        if removed.is_empty() && added.is_empty() {
            let list = |nodes: &[Node]| Node::List(nodes.to_vec());
            if list(before).meaning(None) != list(after).meaning(None) {
                self.note(path, Change::Changed, Some(list(before).value()), Some(list(after).value()));
            }
            return;
        }
        for value in removed {
            self.note(path, Change::Removed, Some(value), None);
        }
        for value in added {
            self.note(path, Change::Added, None, Some(value));
        }
    }

    fn note(&mut self, path: &str, change: Change, from: Option<Value>, to: Option<Value>) {
        self.found.push(Difference { path: path.to_owned(), change, from, to, place: None });
    }

    /// Adds the place to the difference just noted.
    fn place(&mut self, index: usize, of: usize) {
        if let Some(last) = self.found.last_mut() {
            last.place = Some((index + 1, of));
        }
    }
}

fn all_tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Table(_)))
}

fn all_text(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Leaf(_)) && node.value().is_string())
}

fn positions(members: &[(String, Node)]) -> BTreeMap<&str, usize> {
    members.iter().enumerate().map(|(at, (key, _))| (key.as_str(), at)).collect()
}

/// The name is in the path already.
fn nameless(node: &Node) -> Value {
    let mut value = node.value();
    if let Value::Object(members) = &mut value {
        members.remove("name");
    }
    value
}

/// Rules that have become one another: by name, else by what they say, else, without a name, by their order.
fn pair(before: &[Node], after: &[Node]) -> Pairs {
    let mut partner: Vec<Option<usize>> = vec![None; before.len()];
    let mut taken = vec![false; after.len()];
    let mut join = |from: usize, to: usize, partner: &mut Vec<Option<usize>>| {
        if let (Some(slot @ None), Some(free @ false)) = (partner.get_mut(from), taken.get_mut(to)) {
            (*slot, *free) = (Some(to), true);
        }
    };
    let keys: [fn(&Node) -> Option<String>; 3] = [
        |node| node.name().map(str::to_owned),
        |node| Some(node.meaning(Some("name"))),
        |node| node.name().is_none().then(String::new),
    ];
    for key in keys {
        let mut waiting: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
        for (to, node) in after.iter().enumerate() {
            if let Some(key) = key(node) {
                waiting.entry(key).or_default().push_back(to);
            }
        }
        for (from, node) in before.iter().enumerate() {
            if partner.get(from) != Some(&None) {
                continue;
            }
            let Some(queue) = key(node).and_then(|key| waiting.get_mut(&key)) else { continue };
            while let Some(to) = queue.pop_front() {
                join(from, to, &mut partner);
                if partner.get(from) != Some(&None) {
                    break;
                }
            }
        }
    }
    let removed_and_kept = partner.iter().enumerate().map(|(from, to)| (Some(from), *to));
    let added = taken.iter().enumerate().filter(|(_, taken)| !**taken).map(|(to, _)| (None, Some(to)));
    removed_and_kept.chain(added).collect()
}

/// A longest increasing run among distinct numbers, in order.
fn longest_run(numbers: &[usize]) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new(); // of the runs of each length, the index of the least last number
    let mut before: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    let number = |index: &usize| numbers.get(*index).copied().unwrap_or_default();
    for (index, value) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| number(end) < *value);
        before.push(length.checked_sub(1).and_then(|shorter| ends.get(shorter).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(index) = at {
        run.push(number(&index));
        at = before.get(index).copied().flatten();
    }
    run.reverse();
    run
}

fn member(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match (path, !key.is_empty() && key.chars().all(plain)) {
        ("", true) => key.to_owned(),
        (path, true) => format!("{path}.{key}"),
        (path, false) => format!("{path}[\"{key}\"]"),
    }
}

/// A rule without a name is called as in traces, by its number.
fn rule_path(path: &str, node: Option<&Node>, index: usize) -> String {
    let number = index + 1;
    match (node.and_then(Node::name), path) {
        (Some(name), _) => format!("{path}[\"{name}\"]"),
        (None, "classify") => format!("classify[\"rule-{number}\"]"),
        (None, "route") => format!("route[\"route-{number}\"]"),
        (None, _) => format!("{path}[{number}]"),
    }
}
