local Sorter = {}
Sorter.__index = Sorter

function Sorter.new(items)
  local self = setmetatable({}, Sorter)
  self.items = items or {}
  return self
end

function Sorter:run(compare)
  table.sort(self.items, compare or function(a, b) return a < b end)
  for i, item in ipairs(self.items) do
    print(i, item)
  end
end

Sorter.new({ 3, 1, 2 }):run()
return Sorter
