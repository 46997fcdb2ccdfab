//! A room's power levels and a channel's roles: what each means for the other. Rooms of versions up
//! to 11 list everybody; from version 12 on the creators stand above all levels and must not be
//! listed among them.
//!
//! | power | role | and back |
//! |---|---|---|
//! | 100 and more, creators from version 12 on | admin | 100 |
//! | 50 to 99 | moderator | 50; 75 for custom roles above moderators |
//! | less | member | the room's default; 25 for custom roles above members |

use serde_json::Value;

use crate::chat::access::Role;

const ADMIN: i64 = 100;
const MODERATOR: i64 = 50;
/// Creators of rooms of version 12 and later stand above every number (the specification's
/// numbers end at 2^53).
const INFINITE: i64 = i64::MAX;

/// The powers of one room.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Powers {
    /// The whole event `m.room.create`.
    pub create: Value,
    /// The content of `m.room.power_levels`; `null` where there is none.
    pub levels: Value,
}

/// The role that a power stands for.
pub fn role_of(level: i64) -> Role {
    match level {
        ADMIN.. => Role::Admin,
        MODERATOR.. => Role::Moderator,
        _ => Role::Member,
    }
}

/// The power that stands for a role; `None` for the room's default.
pub fn level_of(role: Role) -> Option<i64> {
    match role {
        Role::Founder | Role::Admin => Some(ADMIN),
        Role::Moderator => Some(MODERATOR),
        Role::Custom(_) if role.rank() < Role::Moderator.rank() => Some(75),
        Role::Custom(_) if role.rank() < Role::Member.rank() => Some(25),
        Role::Member | Role::Custom(_) => None,
    }
}

/// A number, which older rooms may have written as a text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}

/// Whose role changed between two contents of `m.room.power_levels`: from what, and to what.
pub fn changes(before: &Value, after: &Value) -> Vec<(String, Role, Role)> {
    let before = Powers { create: Value::Null, levels: before.clone() };
    let after = Powers { create: Value::Null, levels: after.clone() };
    let mut users: Vec<&String> = before.listed().chain(after.listed()).collect();
    users.sort();
    users.dedup();
    let role = |powers: &Powers, user: &str| role_of(powers.given(user));
    users
        .into_iter()
        .filter(|user| role(&before, user) != role(&after, user))
        .map(|user| (user.clone(), role(&before, user), role(&after, user)))
        .collect()
}

impl Powers {
    fn listed(&self) -> impl Iterator<Item = &String> {
        self.levels["users"].as_object().into_iter().flat_map(|users| users.keys())
    }

    fn version(&self) -> u32 {
        self.create["content"]["room_version"].as_str().and_then(|version| version.parse().ok()).unwrap_or(1)
    }

    fn is_creator(&self, user: &str) -> bool {
        let more = self.create["content"]["additional_creators"].as_array();
        self.create["sender"].as_str() == Some(user)
            || (self.version() >= 12 && more.is_some_and(|more| more.iter().any(|creator| creator == user)))
    }

    fn given(&self, user: &str) -> i64 {
        let users = &self.levels["users"];
        number(&users[user]).or_else(|| number(&self.levels["users_default"])).unwrap_or(0)
    }

    /// The power of a user.
    pub fn level(&self, user: &str) -> i64 {
        match self.is_creator(user) {
            true if self.version() >= 12 => INFINITE,
            true if !self.levels.is_object() => ADMIN,
            _ => self.given(user),
        }
    }

    /// Users who are more than members, with the role that their power stands for.
    pub fn powerful(&self) -> Vec<(String, Role)> {
        let creators = self.create["content"]["additional_creators"].as_array();
        let creators = creators.into_iter().flatten().chain([&self.create["sender"]]);
        let mut users: Vec<String> = creators.filter_map(|user| user.as_str().map(str::to_owned)).collect();
        users.extend(self.listed().cloned());
        users.sort();
        users.dedup();
        let with_role = users.into_iter().map(|user| {
            let role = role_of(self.level(&user));
            (user, role)
        });
        with_role.filter(|(_, role)| *role != Role::Member).collect()
    }

    /// The content of `m.room.power_levels` that gives a user what a role stands for, as `by` would
    /// send it; `None` if they have it already.
    ///
    /// # Errors
    /// Why the room does not let `by` do that.
    pub fn giving(&self, by: &str, user: &str, role: Role) -> Result<Option<Value>, &'static str> {
        let now = self.level(user);
        let wanted = level_of(role);
        let is_so = match (role, wanted) {
            (Role::Custom(_), Some(level)) => now == level,
            (Role::Custom(_), None) => role_of(now) == Role::Member,
            (Role::Founder, _) => role_of(now) == Role::Admin,
            _ => role_of(now) == role,
        };
        if is_so {
            return Ok(None);
        }
        if now == INFINITE {
            return Err("they created the room, and its creators stand above all levels");
        }
        let own = self.level(by);
        let needed = number(&self.levels["events"]["m.room.power_levels"])
            .or_else(|| number(&self.levels["state_default"]))
            .unwrap_or(MODERATOR);
        if own < needed || wanted.is_some_and(|level| level > own) {
            return Err("my power in the room is too low");
        }
        if now >= own {
            return Err("their power in the room is not below mine");
        }
        let mut levels = match self.levels.is_object() {
            true => self.levels.clone(),
            false => serde_json::json!({}),
        };
        if !levels["users"].is_object() {
            levels["users"] = serde_json::json!({});
        }
        let default = number(&self.levels["users_default"]).unwrap_or(0);
        match wanted.or((default >= MODERATOR).then_some(0)) {
            Some(level) => levels["users"][user] = level.into(),
            None => {
                if let Some(users) = levels["users"].as_object_mut() {
                    users.remove(user);
                }
            }
        }
        Ok(Some(levels))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOT: &str = "@bot:x";

    fn powers(version: &str, creator: &str, users: Value) -> Powers {
        let create = json!({"sender": creator, "content": {"room_version": version, "additional_creators": ["@second:x"]}});
        Powers { create, levels: json!({"users": users, "users_default": 0, "ban": 50}) }
    }

    #[test]
    fn creators_stand_above_all_from_version_12_on() {
        for (version, creator, second) in [("10", 7, 0), ("11", 7, 0), ("12", INFINITE, INFINITE)] {
            let powers = powers(version, "@founder:x", json!({"@founder:x": 7}));
            assert_eq!(
                (powers.level("@founder:x"), powers.level("@second:x")),
                (creator, second),
                "{version}"
            );
        }
        let bare = Powers { levels: Value::Null, ..powers("11", "@founder:x", json!({})) };
        assert_eq!((bare.level("@founder:x"), bare.level("@a:x")), (100, 0));
        let all = powers("12", "@founder:x", json!({"@mod:x": "50", "@low:x": 49}));
        let named: Vec<String> =
            all.powerful().iter().map(|(user, role)| format!("{user} {}", role.name())).collect();
        assert_eq!(named, ["@founder:x admin", "@mod:x moderator", "@second:x admin"]);
    }

    #[test]
    fn only_what_changes_a_role_counts() {
        let levels = |users: Value| json!({"users": users});
        let before = levels(json!({"@a:x": 50, "@b:x": 100, "@c:x": 10, "@d:x": 60}));
        let after = levels(json!({"@a:x": 100, "@c:x": 20, "@d:x": 50, "@e:x": "50"}));
        let expect = [
            ("@a:x", Role::Moderator, Role::Admin),
            ("@b:x", Role::Admin, Role::Member),
            ("@e:x", Role::Member, Role::Moderator),
        ];
        assert_eq!(changes(&before, &after), expect.map(|(user, was, role)| (user.to_owned(), was, role)));
        assert_eq!(changes(&Value::Null, &json!([7])), []);
    }

    /// What becomes of the listed users, or why not.
    fn giving(powers: &Powers, user: &str, role: Role) -> String {
        match powers.giving(BOT, user, role) {
            Ok(None) => "so already".into(),
            Ok(Some(levels)) => levels["users"].to_string(),
            Err(why) => why.into(),
        }
    }

    #[test]
    fn roles_are_given_where_the_room_lets_us() {
        let room = powers("11", BOT, json!({BOT: 100, "@mod:x": 60, "@admin:x": 100}));
        assert_eq!(giving(&room, "@mod:x", Role::Moderator), "so already");
        assert_eq!(giving(&room, "@a:x", Role::Member), "so already");
        assert_eq!(giving(&room, "@mod:x", Role::Member), r#"{"@admin:x":100,"@bot:x":100}"#);
        assert_eq!(
            giving(&room, "@a:x", Role::Moderator),
            r#"{"@a:x":50,"@admin:x":100,"@bot:x":100,"@mod:x":60}"#
        );
        assert_eq!(giving(&room, "@admin:x", Role::Member), "their power in the room is not below mine");
        assert_eq!(
            giving(&room, "@a:x", Role::Custom(500)),
            r#"{"@a:x":25,"@admin:x":100,"@bot:x":100,"@mod:x":60}"#
        );
        let low = powers("11", "@founder:x", json!({BOT: 50}));
        assert_eq!(giving(&low, "@a:x", Role::Admin), "my power in the room is too low");
        assert_eq!(giving(&low, "@a:x", Role::Moderator), r#"{"@a:x":50,"@bot:x":50}"#);
    }

    #[test]
    fn creators_are_never_listed() {
        let ours = powers("12", BOT, json!({"@admin:x": 100}));
        assert_eq!(giving(&ours, "@admin:x", Role::Moderator), r#"{"@admin:x":50}"#);
        assert_eq!(giving(&ours, "@second:x", Role::Admin), "so already");
        assert!(giving(&ours, "@second:x", Role::Member).starts_with("they created the room"));
        let listed = powers("12", "@founder:x", json!({BOT: 100}));
        assert_eq!(giving(&listed, "@founder:x", Role::Admin), "so already");
    }
}
