//! The regular expressions that occur in `openrpc.json`: literals, `.`, classes, groups with alternatives, `*`, `+`,
//! `?`, `{n}`, `{m,n}`, and the anchors `^` and `$`. What is not understood matches nothing, and so is seen.

/// Whether the text has a match.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut parser = Parser { pattern: &pattern, at: 0 };
    let Some(node) = parser.alternatives() else { return false };
    if parser.at != pattern.len() {
        return false;
    }
    let text: Vec<char> = text.chars().collect();
    (0..=text.len()).any(|start| step(&node, &text, start, &mut |_| true))
}

enum Node {
    Any,
    Start,
    End,
    Class(Vec<(char, char)>),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, usize),
}

struct Parser<'a> {
    pattern: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.pattern.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn alternatives(&mut self) -> Option<Node> {
        let mut options = vec![self.sequence()?];
        while self.peek() == Some('|') {
            self.at += 1;
            options.push(self.sequence()?);
        }
        Some(Node::Either(options))
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut items = Vec::new();
        while self.peek().is_some_and(|next| next != '|' && next != ')') {
            let item = self.item()?;
            items.push(self.repeated(item)?);
        }
        Some(Node::Sequence(items))
    }

    fn item(&mut self) -> Option<Node> {
        Some(match self.next()? {
            '^' => Node::Start,
            '$' => Node::End,
            '.' => Node::Any,
            '(' => {
                let inner = self.alternatives()?;
                (self.next()? == ')').then_some(inner)?
            }
            '[' => {
                let mut ranges = Vec::new();
                while self.peek()? != ']' {
                    let low = self.next()?;
                    let high = if self.peek()? == '-' && self.pattern.get(self.at + 1) != Some(&']') {
                        self.at += 1;
                        self.next()?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                self.at += 1;
                Node::Class(ranges)
            }
            '\\' | '*' | '+' | '?' | '{' => return None,
            literal => Node::Class(vec![(literal, literal)]),
        })
    }

    fn repeated(&mut self, item: Node) -> Option<Node> {
        let (least, most) = match self.peek() {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            Some('{') => {
                let close = self.pattern[self.at..].iter().position(|next| *next == '}')? + self.at;
                let inside: String = self.pattern[self.at + 1..close].iter().collect();
                self.at = close;
                match inside.split_once(',') {
                    Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
                    None => (inside.parse().ok()?, inside.parse().ok()?),
                }
            }
            _ => return Some(item),
        };
        self.at += 1;
        Some(Node::Repeat(Box::new(item), least, most))
    }
}

fn step(node: &Node, text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    match node {
        Node::Start => at == 0 && then(at),
        Node::End => at == text.len() && then(at),
        Node::Any => at < text.len() && then(at + 1),
        Node::Class(ranges) => {
            let inside = |next: &char| ranges.iter().any(|(low, high)| (low..=high).contains(&next));
            text.get(at).is_some_and(inside) && then(at + 1)
        }
        Node::Either(options) => options.iter().any(|option| step(option, text, at, then)),
        Node::Sequence(items) => match items.split_first() {
            None => then(at),
            Some((first, rest)) => step(first, text, at, &mut |after| sequence(rest, text, after, then)),
        },
        Node::Repeat(inner, least, most) => repeat(inner, *least, *most, text, at, then),
    }
}

fn sequence(items: &[Node], text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    match items.split_first() {
        None => then(at),
        Some((first, rest)) => step(first, text, at, &mut |after| sequence(rest, text, after, then)),
    }
}

/// Every repeated item in these patterns is one character wide, so positions are enough and nothing recurses deeply.
fn repeat(
    inner: &Node,
    least: usize,
    most: usize,
    text: &[char],
    at: usize,
    then: &mut dyn FnMut(usize) -> bool,
) -> bool {
    let (mut ends, mut end) = (vec![at], at);
    while ends.len() <= most && step(inner, text, end, &mut |after| after > end) {
        end += 1;
        ends.push(end);
    }
    ends.iter().enumerate().rev().any(|(count, end)| count >= least && then(*end))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn the_patterns_of_the_specification_are_understood() {
        for (pattern, yes, no) in [
            (
                "^0x(0|[1-9a-f][0-9a-f]*)$",
                vec!["0x0", "0x1", "0xabc0"],
                vec!["0x", "0x01", "0xABC", "1", "0x0 "],
            ),
            ("^0x(0|[1-9a-f][0-9a-f]{0,15})$", vec!["0xffffffffffffffff"], vec!["0x1ffffffffffffffff"]),
            ("^0x[0-9a-f]{4}$", vec!["0x00ff"], vec!["0x0ff", "0x000ff"]),
            ("^0x[0-9a-fA-F]{2}$", vec!["0xaB"], vec!["0xgg"]),
            ("^execution reverted.*", vec!["execution reverted", "execution reverted: x"], vec!["reverted"]),
            ("^(0|[1-9][0-9]*)$", vec!["0", "10"], vec!["01", ""]),
            ("^0x4$", vec!["0x4"], vec!["0x44"]),
        ] {
            for text in yes {
                assert!(matches(pattern, text), "{pattern} {text}");
            }
            for text in no {
                assert!(!matches(pattern, text), "{pattern} {text}");
            }
        }
        assert!(!matches("^\\d$", "1"), "what is not understood matches nothing");
    }
}
