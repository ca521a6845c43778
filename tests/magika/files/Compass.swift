import Foundation

enum Direction: String, CaseIterable {
    case north, east, south, west

    var opposite: Direction {
        switch self {
        case .north: return .south
        case .south: return .north
        case .east: return .west
        case .west: return .east
        }
    }
}

struct Compass {
    private(set) var heading: Direction = .north

    mutating func turnAround() {
        guard heading != heading.opposite else { return }
        heading = heading.opposite
    }
}

var compass = Compass()
compass.turnAround()
print(compass.heading.rawValue)
