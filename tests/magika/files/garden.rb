require 'set'

module Garden
  class Bed
    attr_reader :plants

    def initialize(plants = [])
      @plants = Set.new(plants)
    end

    def plant(name)
      raise ArgumentError, 'no name' if name.nil? || name.empty?

      @plants << name
      self
    end

    def each(&block)
      @plants.sort.each(&block)
    end
  end
end

Garden::Bed.new(%w[kale leek]).plant('bean').each { |name| puts name }
