-- For wrk: sends one POST request to many targets, the k-th as often as 1/k^S has it (Zipf's law; S = 0: all alike), and prints what
-- came of it as post.lua does.
-- wrk -s spread.lua URL -- BODY_FILE TARGETS_FILE S [HEADER VALUE]...
-- TARGETS_FILE has a line for each: a path, and after a tab the key that it wants, if any.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or ""
dofile(here .. "post.lua")
local post = init

local requests, bounds = {}, {}

function init(arguments)
  local body, targets, power = table.remove(arguments, 1), table.remove(arguments, 1), tonumber(table.remove(arguments, 1))
  table.insert(arguments, 1, body)
  post(arguments)
  local total = 0
  for line in io.lines(targets) do
    local path, key = line:match("^([^\t]*)\t?(.*)$")
    wrk.headers["Authorization"] = key ~= "" and "Bearer " .. key or nil
    requests[#requests + 1] = wrk.format(nil, path)
    total = total + (#requests) ^ -power
    bounds[#requests] = total
  end
  math.randomseed(1)
end

-- The first whose bound is not below a number drawn from all.
function request()
  local drawn, low, high = math.random() * bounds[#bounds], 1, #bounds
  while low < high do
    local middle = math.floor((low + high) / 2)
    if bounds[middle] < drawn then low = middle + 1 else high = middle end
  end
  return requests[low]
end
