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

/// The limits and rules of a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ISupport {
    pub case_mapping: CaseMapping,
    /// Bytes of a line, CR LF included, tags not.
    pub line_len: usize,
    /// How many channels with `#` one connection may be in.
    pub channel_limit: Option<usize>,
}

impl Default for ISupport {
    fn default() -> Self {
        Self { case_mapping: CaseMapping::Rfc1459, line_len: 512, channel_limit: None }
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
}
