CREATE TABLE harbour (
    id INTEGER PRIMARY KEY,
    name VARCHAR(80) NOT NULL UNIQUE
);

CREATE TABLE tide (
    harbour_id INTEGER NOT NULL REFERENCES harbour (id) ON DELETE CASCADE,
    at TIMESTAMP NOT NULL,
    height_cm INTEGER CHECK (height_cm BETWEEN -500 AND 2000)
);

INSERT INTO harbour (id, name) VALUES (1, 'North'), (2, 'South');

SELECT h.name, AVG(t.height_cm) AS mean_height
FROM harbour h
LEFT JOIN tide t ON t.harbour_id = h.id
WHERE t.at > '2024-01-01'
GROUP BY h.name
HAVING COUNT(*) > 10
ORDER BY mean_height DESC;
