//! The scripts that the server runs, each of them atomically.
//!
//! A plain `SET` with `PX` would let a shorter deadline overwrite a longer one, hence scripts. They use the clock of the
//! server, set an expiry on every key, and take what is in a key for nothing if it is not a report.

/// Merges reports: `KEYS` are those of the backends. `ARGV`: the channel, the expiry of a report, the horizon and the
/// skew, all in milliseconds; then for each key the name and the five numbers of the report. Returns the time and the
/// merged reports. An override of the future, from a time when the clock was wrong, counts as one of just before.
pub(super) const MERGE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local channel, expiry, horizon, skew = ARGV[1], ARGV[2], now + ARGV[3], now + ARGV[4]
local most = 9007199254740991
local merged = {string.format('%.0f', now)}
for i, key in ipairs(KEYS) do
  local at = 4 + (i - 1) * 6
  local name = ARGV[at + 1]
  local epoch, open = math.min(ARGV[at + 2], most), math.min(ARGV[at + 3], horizon)
  local cool, set, code = math.min(ARGV[at + 4], horizon), math.min(ARGV[at + 5], skew), tonumber(ARGV[at + 6])
  local before = redis.pcall('GET', key)
  if type(before) == 'string' and #before <= 100 then
    local e, o, c, s, k = string.match(before, '^(%d+) (%d+) (%d+) (%d+) (%d)$')
    e, o, c, s, k = tonumber(e), tonumber(o), tonumber(c), tonumber(s), tonumber(k)
    if e and math.max(e, o, c, s) <= most and k <= 8 then
      if e > epoch then epoch, open = e, o elseif e == epoch then open = math.max(open, o) end
      cool = math.max(cool, c)
      if s > skew then s = now - ARGV[4] end
      if s > set or (s == set and k > code) then set, code = s, k end
    end
  end
  local after = string.format('%.0f %.0f %.0f %.0f %.0f', epoch, open, cool, set, code)
  if after ~= before then
    redis.call('SET', key, after, 'PX', expiry)
    redis.call('PUBLISH', channel, merged[1] .. ' ' .. name .. ' ' .. after)
  else
    redis.call('PEXPIRE', key, expiry)
  end
  merged[i + 1] = after
end
return merged
";

/// Reads reports: `KEYS` are those of the backends, of one slot; `ARGV` is the expiry of a report in milliseconds. Returns
/// the time and the reports; false for what is none.
///
/// A report that is read does not expire: its epoch would begin anew, and replicas that know a later one would take new
/// openings for old ones.
pub(super) const READ: &str = r"
local time = redis.call('TIME')
local found = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
if #KEYS > 0 then
  for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do
    found[i + 1] = type(value) == 'string' and #value <= 100 and value
    if found[i + 1] then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
  end
end
return found
";

/// Takes permits: `KEYS` are those of the permits. `ARGV`: the id of the replica and the lease in milliseconds. Returns for
/// each key the milliseconds that another replica holds the permit for, or zero.
pub(super) const TAKE: &str = r"
local times = {}
for i, key in ipairs(KEYS) do
  local holder = redis.pcall('GET', key)
  if type(holder) ~= 'string' or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    times[i] = 0
  else
    local rest = redis.call('PTTL', key)
    if rest < 0 then
      redis.call('PEXPIRE', key, ARGV[2])
      rest = tonumber(ARGV[2])
    end
    times[i] = math.max(1, rest)
  end
end
return times
";

/// Returns permits: `KEYS` are those of the permits, `ARGV` is the id of the replica.
pub(super) const RETURN: &str = r"
for _, key in ipairs(KEYS) do
  if redis.pcall('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
";
