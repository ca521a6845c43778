{-# LANGUAGE LambdaCase #-}
module Parser (Parser, parse, item, many1) where

import Control.Applicative (Alternative (..))
import Data.Char (isDigit)

newtype Parser a = Parser { parse :: String -> Maybe (a, String) }

instance Functor Parser where
  fmap f (Parser p) = Parser $ \s -> case p s of
    Nothing -> Nothing
    Just (a, rest) -> Just (f a, rest)

item :: (Char -> Bool) -> Parser Char
item ok = Parser $ \case
  (c : cs) | ok c -> Just (c, cs)
  _ -> Nothing

many1 :: Parser a -> Parser [a]
many1 p = undefined

digit :: Parser Char
digit = item isDigit
