using System;
using System.Collections.Generic;
using System.Linq;

namespace Coast.Harbours
{
    public record Boat(string Name, double Length);

    public class Harbour
    {
        private readonly List<Boat> boats = new();

        public event EventHandler<Boat>? Arrived;

        public void Moor(Boat boat)
        {
            boats.Add(boat);
            Arrived?.Invoke(this, boat);
        }

        public double Longest => boats.Max(b => b.Length);
    }
}
