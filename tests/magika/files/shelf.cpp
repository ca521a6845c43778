#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace shelf {

class Book {
public:
    explicit Book(std::string title) : title_(std::move(title)) {}
    const std::string& title() const { return title_; }

private:
    std::string title_;
};

}  // namespace shelf

int main() {
    std::vector<std::unique_ptr<shelf::Book>> books;
    for (auto title : {"Maps", "Birds", "Rivers"}) books.push_back(std::make_unique<shelf::Book>(title));
    std::sort(books.begin(), books.end(), [](const auto& a, const auto& b) { return a->title() < b->title(); });
    for (const auto& book : books) std::cout << book->title() << std::endl;
}
