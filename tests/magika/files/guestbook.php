<?php
declare(strict_types=1);

namespace Inn;

final class Guestbook
{
    private array $entries = [];

    public function sign(string $name, ?string $note = null): void
    {
        $this->entries[] = ['name' => $name, 'note' => $note ?? ''];
    }

    public function render(): string
    {
        return implode("\n", array_map(fn ($e) => htmlspecialchars($e['name']), $this->entries));
    }
}

$book = new Guestbook();
$book->sign($_POST['name'] ?? 'nobody');
echo $book->render();
