//! What a network says about itself (`RPL_ISUPPORT`, modern.ircdocs.horse/#rplisupport-005), as far
//! as a link needs it. What is absent or malformed has the value that the standard gives it.

/// Which letters count as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CaseMapping {
    Ascii,
    /// `{}|^` are the lower case of `[]\~`.
    Rfc1459,
    /// The same without `^` and `~`.
    Rfc1459Strict,
}

/// Ranks that are told apart.
const RANKS: usize = 16;

/// One letter of a `MODE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ModeChange<'a> {
    pub set: bool,
    pub letter: char,
    pub argument: Option<&'a str>,
}

/// The limits and rules of a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ISupport {
    pub case_mapping: CaseMapping,
    /// Bytes of a line, CR LF included, tags not.
    pub line_len: usize,
    /// How many channels with `#` one connection may be in.
    pub channel_limit: Option<usize>,
    /// Letters of the ranks in a channel, and the signs that show them, highest first.
    pub prefixes: Vec<(char, char)>,
    /// `CHANMODES`: lists, always with an argument, with one when set, without.
    pub channel_modes: [String; 4],
    /// The sign before extended bans (`$a:account`), where those for accounts exist.
    pub account_ban: Option<String>,
}

impl Default for ISupport {
    fn default() -> Self {
        Self {
            case_mapping: CaseMapping::Rfc1459,
            line_len: 512,
            channel_limit: None,
            prefixes: vec![('o', '@'), ('v', '+')],
            channel_modes: ["b", "k", "l", "imnpst"].map(str::to_owned),
            account_ban: None,
        }
    }
}

impl ISupport {
    /// Takes in one token, such as `CASEMAPPING=ascii`.
    pub fn learn(&mut self, token: &str) {
        let (name, value) = token.split_once('=').unwrap_or((token, ""));
        match name {
            "CASEMAPPING" => {
                self.case_mapping = match value {
                    "ascii" => CaseMapping::Ascii,
                    "rfc1459-strict" | "strict-rfc1459" => CaseMapping::Rfc1459Strict,
                    _ => CaseMapping::Rfc1459,
                }
            }
            "LINELEN" => {
                if let Some(bytes) = value.parse().ok().filter(|bytes| (512..=16_384).contains(bytes)) {
                    self.line_len = bytes;
                }
            }
            "PREFIX" => {
                if let Some((letters, signs)) = value.strip_prefix('(').and_then(|v| v.split_once(')')) {
                    self.prefixes = letters.chars().zip(signs.chars()).take(RANKS).collect();
                }
            }
            "CHANMODES" => {
                let mut sorts = value.split(',');
                self.channel_modes = [(); 4].map(|()| sorts.next().unwrap_or_default().to_owned());
            }
            // `$,ajrxz` or `~,qjncrRa`: `a` is an account.
            "EXTBAN" => {
                let (sign, letters) = value.split_once(',').unwrap_or(("", value));
                self.account_ban = letters.contains('a').then(|| format!("{sign}a:"));
            }
            "CHANLIMIT" => {
                let of_hash = value.split(',').find_map(|part| {
                    let (prefixes, limit) = part.split_once(':')?;
                    prefixes.contains('#').then(|| limit.parse().ok()).flatten()
                });
                self.channel_limit = of_hash.filter(has_room);
            }
            "MAXCHANNELS" => {
                self.channel_limit = self.channel_limit.or(value.parse().ok().filter(has_room));
            }
            _ => {}
        }
    }

    /// Whether a nick with these signs before it in a list of names is an operator of the channel.
    pub fn is_operator(&self, signs: &str) -> bool {
        let operators = self.prefixes.iter().take_while(|(letter, _)| !matches!(letter, 'h' | 'v'));
        operators.into_iter().any(|(_, sign)| signs.contains(*sign))
    }

    /// The changes that a `MODE` of a channel makes, with their arguments.
    pub fn changes<'a>(&self, arguments: &'a [String]) -> Vec<ModeChange<'a>> {
        let Some((letters, arguments)) = arguments.split_first() else { return Vec::new() };
        let mut arguments = arguments.iter().map(String::as_str);
        let (mut set, mut changes) = (true, Vec::new());
        for letter in letters.chars() {
            match letter {
                '+' | '-' => set = letter == '+',
                _ => {
                    let argument = self.takes_argument(letter, set).then(|| arguments.next()).flatten();
                    changes.push(ModeChange { set, letter, argument });
                }
            }
        }
        changes
    }

    fn takes_argument(&self, letter: char, set: bool) -> bool {
        let [lists, always, when_set, _] = &self.channel_modes;
        self.prefixes.iter().any(|(rank, _)| *rank == letter)
            || lists.contains(letter)
            || always.contains(letter)
            || (set && when_set.contains(letter))
    }

    /// A nick or channel name in the form in which equal ones are equal.
    pub fn fold(&self, name: &str) -> String {
        let ascii = self.case_mapping == CaseMapping::Ascii;
        let letter = |c: char| match c {
            '[' if !ascii => '{',
            ']' if !ascii => '}',
            '\\' if !ascii => '|',
            '~' if self.case_mapping == CaseMapping::Rfc1459 => '^',
            c => c.to_ascii_lowercase(),
        };
        name.chars().map(letter).collect()
    }
}

/// ngIRCd without a limit announces 0, which nobody can mean: it would let no one join.
fn has_room(limit: &usize) -> bool {
    *limit > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_means_rfc1459() {
        let mut support = ISupport::default();
        assert_eq!(support.fold("#A[b]\\~É"), "#a{b}|^É");
        support.learn("CASEMAPPING=rfc1459-strict");
        assert_eq!(support.fold("[~"), "{~");
        support.learn("CASEMAPPING=ascii");
        assert_eq!(support.fold("#A[b]\\~"), "#a[b]\\~");
    }

    #[test]
    fn limits() {
        let mut support = ISupport::default();
        for token in ["CHANLIMIT=&:5,#+:20", "MAXCHANNELS=3", "LINELEN=2048", "LINELEN=x", "NONSENSE"] {
            support.learn(token);
        }
        assert_eq!((support.channel_limit, support.line_len), (Some(20), 2048));
        support.learn("CHANLIMIT=#&+:0");
        assert_eq!(support.channel_limit, None, "a limit of 0 is none");
    }
    #[test]
    fn modes_take_their_own_arguments() {
        let mut support = ISupport::default();
        for token in ["PREFIX=(qaohv)~&@%+", "CHANMODES=beI,k,lf,imnpst", "EXTBAN=~,qacj"] {
            support.learn(token);
        }
        let arguments = ["-lo+fb", "bob", "#x", "*!*@h"].map(str::to_owned);
        let change = |set, letter, argument| ModeChange { set, letter, argument };
        let expect = [
            change(false, 'l', None),
            change(false, 'o', Some("bob")),
            change(true, 'f', Some("#x")),
            change(true, 'b', Some("*!*@h")),
        ];
        assert_eq!(support.changes(&arguments), expect);
        assert_eq!(
            ["~", "+@", "%", "+", ""].map(|signs| support.is_operator(signs)),
            [true, true, false, false, false]
        );
        assert_eq!(support.account_ban.as_deref(), Some("~a:"));
    }
}
