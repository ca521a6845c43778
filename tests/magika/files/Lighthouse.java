package coast.lights;

import java.util.ArrayList;
import java.util.List;

public final class Lighthouse implements Comparable<Lighthouse> {
    private final String name;
    private final int height;

    public Lighthouse(String name, int height) {
        this.name = name;
        this.height = height;
    }

    @Override
    public int compareTo(Lighthouse other) {
        return Integer.compare(height, other.height);
    }

    public static void main(String[] args) {
        List<Lighthouse> lights = new ArrayList<>();
        lights.add(new Lighthouse("North", 42));
        lights.stream().map(l -> l.name).forEach(System.out::println);
    }
}
